package images

import (
	"net/http"
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
	blobPath     = regexp.MustCompile(`^/v2/.+/blobs/sha256:([0-9a-f]{64})$`)
)

// Registry serves the images for reading, as a mirror of every registry their references
// name: the repository "e2e-test-images/busybox" is found under any host.
func (s *Store) Registry() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "this registry is read only", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		if r.URL.Path == "/v2/" {
			return
		}
		if m := manifestPath.FindStringSubmatch(r.URL.Path); m != nil {
			s.serveManifest(w, r, m[1], m[2])
		} else if m := blobPath.FindStringSubmatch(r.URL.Path); m != nil {
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeFile(w, r, s.path(m[1]))
		} else {
			http.NotFound(w, r)
		}
	})
}

// serveManifest finds an image by repository and tag, or by its digest.
func (s *Store) serveManifest(w http.ResponseWriter, r *http.Request, repository, want string) {
	for ref, desc := range s.images {
		_, rest, _ := strings.Cut(ref, "/")
		if rest == repository+":"+want || desc.Digest.String() == want {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Docker-Content-Digest", desc.Digest.String())
			http.ServeFile(w, r, s.path(desc.Digest.Encoded()))
			return
		}
	}
	http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such image"}]}`, http.StatusNotFound)
}
