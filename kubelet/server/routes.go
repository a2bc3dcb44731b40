package server

import (
	"net/http"

	"github.com/proa-dev/proa/internal/localpath"
	"github.com/proa-dev/proa/internal/nodeusage"
)

// routes registers everything that is served, each with what it takes. What runs something
// in a container takes "create", also when a WebSocket begins with a GET.
func (s *Server) routes() {
	s.mux = http.NewServeMux()
	read := func(subresources ...string) need { return need{subresources: subresources} }
	effect := need{verb: "create", subresources: []string{"proxy"}}

	s.handle("GET /healthz", read("healthz", "proxy"), s.healthz)
	s.handle("GET /healthz/{check}", read("healthz", "proxy"), s.healthz)
	s.handle("GET /pods", read("pods", "proxy"), s.pods)
	s.handle("GET /runningpods/", read("pods", "proxy"), s.runningPods)
	s.handle("GET /configz", read("configz", "proxy"), s.configz)
	s.handle("GET /metrics", read("metrics"), s.metricsHandler().ServeHTTP)
	s.handle("GET /metrics/resource", read("metrics"), s.resourceMetrics)
	s.handle("GET /metrics/cadvisor", read("metrics"), s.containerMetrics)
	s.handle("GET /metrics/probes", read("metrics"), gathered(s.cfg.Probes).ServeHTTP)
	s.handle("GET "+nodeusage.Endpoint, read("metrics"), s.answerNodeUsage)
	s.handle("GET /stats/summary", read("stats"), s.summary)
	s.handle("POST /stats/summary", read("stats"), s.summary)
	s.handle("GET /containerLogs/{namespace}/{pod}/{container}", read("proxy"), s.containerLogs)

	s.handle("DELETE "+localpath.Endpoint+"{name}", need{verb: "delete", subresources: []string{"proxy"}}, s.removeLocal)

	for _, method := range []string{"GET ", "POST "} {
		s.handle(method+"/exec/{namespace}/{pod}/{container}", effect, s.exec)
		s.handle(method+"/exec/{namespace}/{pod}/{uid}/{container}", effect, s.exec)
		s.handle(method+"/attach/{namespace}/{pod}/{container}", effect, s.attach)
		s.handle(method+"/attach/{namespace}/{pod}/{uid}/{container}", effect, s.attach)
		s.handle(method+"/portForward/{namespace}/{pod}", effect, s.portForward)
		s.handle(method+"/portForward/{namespace}/{pod}/{uid}", effect, s.portForward)
	}
	s.handle("/", effect, http.NotFound)
}

func (s *Server) handle(pattern string, n need, h http.HandlerFunc) {
	s.mux.HandleFunc(pattern, s.guard.wrap(n, h))
}

// removeLocal removes a local volume that nobody claims any more.
func (s *Server) removeLocal(w http.ResponseWriter, r *http.Request) {
	if s.cfg.RemoveLocal == nil {
		http.NotFound(w, r)
		return
	}
	if err := s.cfg.RemoveLocal(r.PathValue("name")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.log.Info("removed a local volume", "volume", r.PathValue("name"))
	w.WriteHeader(http.StatusOK)
}
