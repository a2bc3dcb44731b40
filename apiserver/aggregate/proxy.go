package aggregate

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/client-go/transport"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/internal/turnover"
)

// ServeHTTP sends a request on as the user in its context. Nothing is tunnelled unless the
// backend switches protocols, and no redirect is followed or passed on.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := catalog.UserOf(r.Context())
	if user == nil || !b.isAvailable() {
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	out := r.Clone(r.Context())
	out.URL = b.url(r.URL)
	access.DropIdentity(out.Header)
	if id := w.Header().Get(auditHeader); id != "" {
		out.Header.Set(auditHeader, id)
	}
	if httpstream.IsUpgradeRequest(r) {
		// A tunnel's headers go out as they are. What Connection names must not be among them.
		out.Header.Set("Connection", "Upgrade")
		speakFor(out, user)
	}
	h := proxy.NewUpgradeAwareHandler(out.URL, speaker{b.transport, user}, true, false, responder{b})
	h.UseLocationHost = true
	h.RejectForwardingRedirects = true
	h.ServeHTTP(w, out)
}

// suspicion is how long after a request that failed its backend is checked; further ones
// in that time cause no more.
const suspicion = 200 * time.Millisecond

func (a *Aggregator) suspect(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.queue != nil {
		a.queue.AddAfter(name, suspicion)
	}
}

// auditHeader ties the logs of both servers together.
const auditHeader = "Audit-Id"

// url is where a request goes: the same path, on the service's name; path and query as they were
// understood here, so that nobody is let through to what the backend reads otherwise.
func (b *backend) url(asked *url.URL) *url.URL {
	return &url.URL{
		Scheme: "https", Host: net.JoinHostPort(b.reference.host(), strconv.Itoa(int(b.reference.port))),
		Path: asked.Path, RawQuery: asked.Query().Encode(),
	}
}

// speakFor names the user in the headers.
func speakFor(r *http.Request, u *api.User) {
	transport.SetAuthProxyHeaders(r, u.Name, u.UID, u.Groups, u.Extra)
}

// speaker names the user in each request, behind everything that removes headers.
type speaker struct {
	next *turnover.Transport
	user *api.User
}

// WrappedRoundTripper lets tunnels find the dialer and the TLS configuration.
func (s speaker) WrappedRoundTripper() http.RoundTripper { return s.next }

func (s speaker) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	speakFor(r, s.user)
	answer, err := s.next.RoundTrip(r)
	if err == nil {
		answer.Header.Del(auditHeader) // the client has it from this server
	}
	return answer, err
}

// responder answers when the backend did not.
type responder struct{ b *backend }

func (r responder) Error(w http.ResponseWriter, req *http.Request, err error) {
	r.b.a.log.Debug("a request to a backend failed", "name", r.b.name, "path", req.URL.Path, "err", err)
	var status *apierrors.StatusError
	switch {
	case errors.As(err, &status):
		http.Error(w, status.Error(), int(status.ErrStatus.Code))
		return
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "the service did not answer in time", http.StatusGatewayTimeout)
		return
	case !errors.Is(err, context.Canceled):
		r.b.a.suspect(r.b.name) // is it still there?
	}
	http.Error(w, "error trying to reach service: "+err.Error(), http.StatusServiceUnavailable)
}
