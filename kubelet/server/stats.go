package server

import (
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func isGone(err error) bool { return status.Code(err) == codes.NotFound }

type cpuRates struct{}

func newCPURates() *cpuRates { return &cpuRates{} }

func (s *Server) summary(w http.ResponseWriter, r *http.Request)         { http.NotFound(w, r) }
func (s *Server) resourceMetrics(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
