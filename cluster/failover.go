package cluster

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// A server may accept connections and yet be of no use: it has lost the others, hangs, or ends. Of
// such a one an agent has had enough when for so long, and so often, no request succeeded.
const (
	enoughTime   = 4 * time.Second
	enoughFaults = 3
)

// failover watches how requests end, and leaves a server that fails them all.
type failover struct {
	http.RoundTripper
	leave func()
	now   func() time.Time

	mu     sync.Mutex
	faults int
	since  time.Time // the first of them
}

// RoundTrip implements http.RoundTripper.
func (f *failover) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := f.RoundTripper.RoundTrip(r)
	switch {
	case err != nil && errors.Is(r.Context().Err(), context.Canceled): // says nothing
	case err != nil || answer.StatusCode >= http.StatusInternalServerError:
		if f.fault() {
			f.leave()
		}
	default:
		f.mu.Lock()
		f.faults = 0
		f.mu.Unlock()
	}
	return answer, err
}

// fault counts one and says whether it is enough.
func (f *failover) fault() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if f.faults++; f.faults == 1 {
		f.since = now
	}
	if f.faults < enoughFaults || now.Sub(f.since) < enoughTime {
		return false
	}
	f.faults = 0
	return true
}

// WrappedRoundTripper is for those who make a connection by hand: tunnels.
func (f *failover) WrappedRoundTripper() http.RoundTripper { return f.RoundTripper }
