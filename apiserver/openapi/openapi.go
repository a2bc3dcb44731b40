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
	"sync"
	"sync/atomic"

	"github.com/proa-dev/proa/apiserver/catalog"
)

// Handler serves the documents; safe for concurrent use.
type Handler struct {
	list    *catalog.Catalog
	cbor    bool
	mu      sync.Mutex
	current atomic.Pointer[documents]
}

// New makes a handler for the list. Nothing is built yet.
func New(list *catalog.Catalog) *Handler { return &Handler{list: list} }

// SpeakCBOR has the documents say that bodies and answers may be CBOR. It is called before the
// first request.
func (h *Handler) SpeakCBOR() { h.cbor = true }

// documents are those of the present state. Those of group versions that stayed the same
// are kept.
func (h *Handler) documents() *documents {
	state := h.list.State()
	if d := h.current.Load(); d != nil && d.state == state {
		return d
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.current.Load()
	if old != nil && old.state == h.list.State() {
		return old
	}
	d := newDocuments(h.list.State(), h.cbor, old)
	h.current.Store(d)
	return d
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the OpenAPI documents can only be read", http.StatusMethodNotAllowed)
		return
	}
	docs := h.documents()
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
			if ok {
				w.WriteHeader(http.StatusNotFound) // as the server of documents does it, without words
			} else {
				http.NotFound(w, r)
			}
			return
		}
		doc.serve(w, r)
	}
}
