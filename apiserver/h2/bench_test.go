package h2

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// both runs a benchmark against x/net's server and against this one.
func both(b *testing.B, h http.Handler, run func(b *testing.B, s *site)) {
	for name, cfg := range map[string]*Config{"standard": nil, "own": {}} {
		b.Run(name, func(b *testing.B) { run(b, newSite(b, h, cfg)) })
	}
}

var answering = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		_, _ = io.ReadAll(r.Body)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Audit-Id", "0b8a5f0e-58d4-4a5f-8e9a-9c6d0c6b4d3e")
	w.Header().Set("Cache-Control", "no-cache, private")
	_, _ = w.Write(answer1k)
})

var answer1k = bytes.Repeat([]byte("x"), 1<<10)

// exchange sends a request by hand and reads to the answer's end: the client costs little.
func exchange(b *testing.B, r *raw, id uint32, method string, body []byte) {
	r.headers(id, body == nil, request(method, "/api/v1/namespaces/default/configmaps", "user-agent", "bench", "accept", "application/json")...)
	if body != nil {
		r.ok(r.f.WriteData(id, true, body))
	}
	drain(r, id)
}

func drain(r *raw, id uint32) {
	for {
		head, err := r.f.ReadFrameHeader()
		r.ok(err)
		_, err = io.CopyN(io.Discard, r.conn, int64(head.Length))
		r.ok(err)
		if head.StreamID == id && head.Type <= 1 && head.Flags&1 != 0 {
			return
		}
	}
}

func benchExchange(method string, body []byte) func(b *testing.B, s *site) {
	return func(b *testing.B, s *site) {
		r := s.open()
		r.ok(r.f.WriteWindowUpdate(0, 1<<30))
		id := uint32(1)
		b.ReportAllocs()
		for b.Loop() {
			exchange(b, r, id, method, body)
			id += 2
		}
	}
}

// BenchmarkDeep has handlers that need a stack of some size, as real ones do.
func BenchmarkDeep(b *testing.B) {
	both(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Sum", string(rune('a'+deep(60)%20)))
		answering(w, r)
	}), benchExchange("GET", nil))
}

//go:noinline
func deep(n int) int {
	var frame [200]byte
	frame[n] = byte(n)
	if n == 0 {
		return 1
	}
	return deep(n-1) + int(frame[n])
}

func BenchmarkGet(b *testing.B)  { both(b, answering, benchExchange("GET", nil)) }
func BenchmarkPost(b *testing.B) { both(b, answering, benchExchange("POST", answer1k)) }

// BenchmarkWatch sends frames of 200 bytes to 500 streams on 10 connections; an operation is
// one event for all.
func BenchmarkWatch(b *testing.B) {
	const conns, streams = 10, 50
	var mu sync.Mutex
	var watchers []chan struct{}
	got := make(chan struct{}, conns*streams)
	event := []byte(strings.Repeat("e", 200))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := make(chan struct{}, 1)
		mu.Lock()
		watchers = append(watchers, own)
		mu.Unlock()
		w.(http.Flusher).Flush()
		got <- struct{}{}
		for {
			select {
			case <-own:
				_, _ = w.Write(event)
				w.(http.Flusher).Flush()
				got <- struct{}{}
			case <-r.Context().Done():
				return
			}
		}
	})
	both(b, h, func(b *testing.B, s *site) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		watchers = nil
		for range conns {
			r := s.open(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			r.ok(r.f.WriteWindowUpdate(0, 1<<30))
			for i := range streams {
				r.headers(uint32(2*i+1), true, request("GET", "/watch")...)
			}
			go func() { _, _ = io.Copy(io.Discard, r.conn) }()
		}
		for range conns * streams {
			<-got
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportAllocs()
		for b.Loop() {
			for _, w := range watchers {
				w <- struct{}{}
			}
			for range watchers {
				<-got
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(conns*streams), "ns/delivery")
		b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/(conns*streams), "B/stream")
	})
}
