// Package openapi answers what the server's objects and operations look like:
// /openapi/v2, /openapi/v3 and below. kubectl explain, client-side apply and client
// generators read it.
//
// The one idea: schemas come from the Go types by reflection, with the descriptions the
// types carry and the merge rules of client-go's apply configurations, and operations
// from the list of kinds; nothing is built before somebody asks for it, one group version
// at a time, and what is kept is the compressed answer. The address and ETag of a document
// are a hash of what it is made from, so that the index costs nothing either.
//
// Used by apiserver for GET requests on these paths.
package openapi

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/proa-dev/proa/apis/api"
)

// Handler serves the documents; safe for concurrent use.
type Handler struct {
	current atomic.Pointer[documents]
}

// New makes a handler for the kinds. Nothing is built yet.
func New(kinds []*api.Kind) *Handler {
	h := &Handler{}
	h.Set(kinds)
	return h
}

// Set replaces the kinds. Documents of group versions that stay the same are kept.
func (h *Handler) Set(kinds []*api.Kind) { h.SetCustom(kinds, nil) }

// SetCustom is Set with the schemas of custom resources, which are among the kinds
// (their Type is unstructured.Unstructured). Schemas are kept and must not be changed.
func (h *Handler) SetCustom(kinds []*api.Kind, schemas Schemas) {
	h.current.Store(newDocuments(kinds, schemas, h.current.Load()))
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the OpenAPI documents can only be read", http.StatusMethodNotAllowed)
		return
	}
	docs := h.current.Load()
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch {
	case path == "/openapi/v2":
		docs.v2.serve(w, r)
	case path == "/openapi/v3":
		docs.serveIndex(w, r)
	default:
		name, ok := strings.CutPrefix(path, "/openapi/v3/")
		doc := docs.v3[name]
		if !ok || doc == nil {
			http.NotFound(w, r)
			return
		}
		doc.serve(w, r)
	}
}
