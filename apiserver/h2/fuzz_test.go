package h2

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// FuzzFrames: whatever comes after the preface, the connection ends when its peer does, and
// nothing of it is left.
func FuzzFrames(f *testing.F) {
	add := func(write func(*http2.Framer, func(...string) []byte)) {
		var wire, b bytes.Buffer
		fr := http2.NewFramer(&wire, nil)
		fr.AllowIllegalWrites = true
		e := hpack.NewEncoder(&b)
		write(fr, func(pairs ...string) []byte {
			b.Reset()
			for i := 0; i+1 < len(pairs); i += 2 {
				_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
			}
			return b.Bytes()
		})
		f.Add(wire.Bytes())
	}
	add(func(fr *http2.Framer, block func(...string) []byte) {
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(request("POST", "/", "content-length", "5")...), EndHeaders: true})
		_ = fr.WriteData(1, true, []byte("hello"))
		_ = fr.WriteWindowUpdate(1, 9)
		_ = fr.WritePing(false, [8]byte{})
	})
	add(func(fr *http2.Framer, block func(...string) []byte) {
		_ = fr.WriteSettings()
		p := block(request("GET", "/x?y", "cookie", "a=b", "cookie", "c=d", "trailer", "x")...)
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p[:4], PadLength: 3})
		_ = fr.WriteContinuation(3, true, p[4:])
		_ = fr.WriteDataPadded(3, false, []byte("x"), make([]byte, 4))
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block("x", "y"), EndHeaders: true, EndStream: true})
		_ = fr.WriteRSTStream(3, 1)
		_ = fr.WritePriority(5, http2.PriorityParam{StreamDep: 5})
		_ = fr.WriteGoAway(1, 0, nil)
	})
	server := newSite(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "\n") || strings.ContainsAny(r.Host, " \r\n") {
			panic("smuggled")
		}
		_, _ = io.Copy(w, io.LimitReader(r.Body, 1<<20))
	}), &Config{MaxStreams: 8, HeaderTimeout: 2 * time.Second})
	f.Fuzz(func(t *testing.T, frames []byte) {
		r := (&site{t, server.srv, server.addr}).dial()
		go func() { _, _ = io.Copy(io.Discard, r.conn) }()
		_, _ = io.WriteString(r.conn, http2.ClientPreface)
		_, _ = r.conn.Write(frames)
		_ = r.conn.Close()
		for range 500 {
			if goroutines() == "" {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatal("goroutines are left:\n" + goroutines())
	})
}
