package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// ends waits until the server has ended the connection, and says how.
func (r *raw) ends() string {
	why := "no farewell"
	for {
		switch got := r.said(); {
		case strings.HasPrefix(got, "GOAWAY"):
			why = got
		case got == "closed":
			return why
		case got == "silence":
			return got
		}
	}
}

// floods writes until the server has enough.
func (r *raw) floods(most int, one func(i int) error) (why string, taken int) {
	ended := make(chan string, 1)
	go func() { ended <- r.ends() }()
	_ = r.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	for taken < most && one(taken) == nil {
		taken++
	}
	select {
	case why = <-ended:
	case <-time.After(10 * time.Second):
		why = "goes on"
	}
	return why, taken
}

// Floods of frames that cost the peer nothing end the connection, and handlers that run on
// after their streams' ends are bounded (CVE-2023-44487, CVE-2025-8671, CVE-2024-27316,
// CVE-2019-9512, 9513, 9515, 9518).
func TestAttackFloods(t *testing.T) {
	const streams = 20
	get := request("GET", "/")
	for name, one := range map[string]func(r *raw, i int) error{
		"rapid reset": func(r *raw, i int) error {
			id := uint32(2*i + 1)
			if err := r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(get...), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return r.f.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"made you reset: window": func(r *raw, i int) error {
			id := uint32(2*i + 1)
			if err := r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(get...), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return r.f.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
		},
		"made you reset: data": func(r *raw, i int) error {
			id := uint32(2*i + 1)
			if err := r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(get...), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return r.f.WriteData(id, true, nil)
		},
		"malformed": func(r *raw, i int) error {
			return r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: r.block("x", "y"), EndStream: true, EndHeaders: true})
		},
		"too many": func(r *raw, i int) error {
			return r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: r.block(get...), EndStream: true, EndHeaders: true})
		},
		"settings": func(r *raw, _ int) error { return r.f.WriteSettings() },
		"pings":    func(r *raw, _ int) error { return r.f.WritePing(false, [8]byte{}) },
		"priorities": func(r *raw, i int) error {
			return r.f.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: 1})
		},
		"unknown": func(r *raw, _ int) error { return r.f.WriteRawFrame(99, 0, 0, nil) },
		"empty data": func(r *raw, i int) error {
			if i == 0 {
				return r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...), EndHeaders: true})
			}
			return r.f.WriteData(1, false, nil)
		},
		"continuation": func(r *raw, i int) error {
			if i == 0 {
				return r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...)})
			}
			return r.f.WriteContinuation(1, false, r.block("x-filler", strings.Repeat("a", 5000)))
		},
		"empty continuation": func(r *raw, i int) error {
			if i == 0 {
				return r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(get...)})
			}
			return r.f.WriteContinuation(1, false, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var running, most atomic.Int64
			over := make(chan struct{})
			s := newSite(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				n := running.Add(1)
				defer running.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				<-over // a handler that does not look at its context
			}), &Config{MaxStreams: streams})
			r := s.open()
			why, taken := r.floods(100_000, func(i int) error { return one(r, i) })
			t.Logf("%s after %d; %d ran at once", why, taken, most.Load())
			if why == "goes on" || why == "silence" || most.Load() > streams {
				t.Errorf("%s after %d; %d ran at once", why, taken, most.Load())
			}
			close(over)
			noneLeft(t)
		})
	}
}

// A header that is small on the wire and large in memory is refused, and the connection goes
// on (CVE-2016-6581).
func TestAttackHeaderBomb(t *testing.T) {
	s := newSite(t, hold(t), &Config{})
	r := s.open()
	r.headers(1, true, request("GET", "/", "x-bomb", strings.Repeat("a", 3000))...)
	if got := r.said(); got != "HEADERS 1 200 END" {
		t.Fatal(got)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b := r.block(request("GET", "/", "x-bomb", strings.Repeat("a", 3000))...)
	bomb := append(b, bytes.Repeat(b[len(b)-1:], 10_000)...) // 10,000 times what the table has
	r.ok(r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: bomb, EndStream: true, EndHeaders: true}))
	if got := r.said(); got != "HEADERS 3 431" {
		t.Error(got)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d KiB", grown>>10)
	}
	for strings.HasPrefix(r.said(), "HEADERS 3") {
	}
	r.headers(5, true, request("GET", "/", "x-bomb", strings.Repeat("a", 3000))...)
	if got := r.said(); got != "HEADERS 5 200 END" {
		t.Error(got)
	}
}

// A peer that opens no window holds what was written and no more; its handler is freed by a
// reset, by the connection's end, or by the deadline of its answer.
func TestAttackNoWindow(t *testing.T) {
	for name, free := range map[string]func(*raw, context.CancelFunc){
		"reset":    func(r *raw, _ context.CancelFunc) { r.ok(r.f.WriteRSTStream(1, http2.ErrCodeCancel)) },
		"end":      func(r *raw, _ context.CancelFunc) { _ = r.conn.Close() },
		"deadline": func(_ *raw, deadline context.CancelFunc) { deadline() },
	} {
		t.Run(name, func(t *testing.T) {
			result := make(chan error, 1)
			ctl := make(chan *http.ResponseController, 1)
			s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				ctl <- http.NewResponseController(w)
				for {
					if _, err := w.Write(make([]byte, 1<<20)); err != nil {
						result <- err
						return
					}
				}
			}), &Config{})
			r := s.open(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			r.headers(1, true, request("GET", "/")...)
			if got := r.said(); got != "HEADERS 1 200" {
				t.Fatal(got)
			}
			c := <-ctl
			free(r, func() { _ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)) })
			select {
			case err := <-result:
				if errors.Is(err, os.ErrDeadlineExceeded) != (name == "deadline") {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the handler still writes")
			}
			if name == "deadline" {
				if got := r.said(); got != "RST 1 INTERNAL_ERROR" {
					t.Error(got)
				}
			}
		})
	}
}

// A peer that takes nothing from the socket loses the connection.
func TestAttackNoReader(t *testing.T) {
	result := make(chan error, 1)
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
		<-r.Context().Done()
		result <- err
	}), &Config{WriteTimeout: time.Second - deadlineStep})
	r := s.open(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	r.ok(r.f.WriteWindowUpdate(0, maxWindow-firstWindow))
	r.headers(1, true, request("GET", "/")...)
	select {
	case <-result:
	case <-time.After(15 * time.Second):
		t.Fatal("the handler still writes")
	}
	_ = r.conn.Close()
	noneLeft(t)
}

// Bodies are held up to the window that was granted; more is a fault.
func TestAttackBeyondWindow(t *testing.T) {
	s := newSite(t, hold(t), &Config{})
	r := s.open()
	for id := uint32(1); id <= 9; id += 2 {
		r.headers(id, false, request("POST", "/hold")...)
	}
	chunk := make([]byte, 16<<10)
	for range streamWindow / len(chunk) {
		r.ok(r.f.WriteData(1, false, chunk))
	}
	r.ok(r.f.WriteData(1, false, chunk))
	if got := r.said(); got != "RST 1 FLOW_CONTROL_ERROR" {
		t.Error(got)
	}
	why, _ := r.floods(connWindow/len(chunk)+100, func(i int) error { return r.f.WriteData(uint32(3+2*(i/16)), false, chunk) })
	if why != "GOAWAY FLOW_CONTROL_ERROR" {
		t.Error(why)
	}
	noneLeft(t)
}

// Who does not say what he wants is not waited for.
func TestAttackSlow(t *testing.T) {
	cfg := &Config{HeaderTimeout: 200 * time.Millisecond, IdleTimeout: 400 * time.Millisecond}
	for name, c := range map[string]struct {
		begin func(*site) *raw
		want  string
	}{
		"no preface":  {func(s *site) *raw { return s.dial() }, "no farewell"},
		"no settings": {func(s *site) *raw { r := s.dial(); _, _ = io.WriteString(r.conn, http2.ClientPreface); return r }, "no farewell"},
		"half a header": {func(s *site) *raw {
			r := s.open()
			r.ok(r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(":method", "GET")}))
			return r
		}, "no farewell"},
		"nothing": {func(s *site) *raw { return s.open() }, "GOAWAY NO_ERROR"},
		"pings": {func(s *site) *raw {
			r := s.open()
			for range 3 {
				r.ok(r.f.WritePing(false, [8]byte{}))
			}
			return r
		}, "GOAWAY NO_ERROR"},
		"after a request": {func(s *site) *raw { r := s.open(); r.headers(1, true, request("GET", "/")...); return r }, "GOAWAY NO_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.begin(newSite(t, hold(t), cfg))
			begun := time.Now()
			if why := r.ends(); why != c.want {
				t.Errorf("%s, want %s", why, c.want)
			}
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("after %s", took)
			}
		})
	}
}
