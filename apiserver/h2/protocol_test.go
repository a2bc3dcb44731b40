package h2

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// hold answers /hold when the test is over, /body when the body has come, and everything else at once.
func hold(t *testing.T) http.Handler {
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hold":
			select {
			case <-over:
			case <-r.Context().Done():
			}
		case "/body":
			b, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(b)
		case "/long":
			_, _ = w.Write([]byte(strings.Repeat("x", 100)))
		}
	})
}

func settingsPayload(id http2.SettingID, v uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(id >> 8), byte(id)}, v)
}

// What comes and what is answered, as h2spec has it: by the sections of RFC 9113.
func TestProtocol(t *testing.T) {
	hello := "HEADERS 1 200 END"
	get := func(r *raw, id uint32) { r.headers(id, true, request("GET", "/")...) }
	malformed := func(pairs ...string) func(*raw) {
		return func(r *raw) { r.headers(1, true, pairs...) }
	}
	rawFrame := func(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) func(*raw) {
		return func(r *raw) { r.ok(r.f.WriteRawFrame(kind, flags, id, payload)) }
	}
	held := func(then func(*raw)) func(*raw) {
		return func(r *raw) { r.headers(1, true, request("GET", "/hold")...); then(r) }
	}
	posting := func(path string, then func(*raw), more ...string) func(*raw) {
		return func(r *raw) { r.headers(1, false, request("POST", path, more...)...); then(r) }
	}
	const (
		protocol = "GOAWAY PROTOCOL_ERROR"
		size     = "GOAWAY FRAME_SIZE_ERROR"
		flow     = "GOAWAY FLOW_CONTROL_ERROR"
		stream   = "RST 1 PROTOCOL_ERROR"
	)
	for name, c := range map[string]struct {
		in   func(*raw)
		want []string
	}{
		"a request": {func(r *raw) { get(r, 1) }, []string{hello}},
		"a request with priority": {func(r *raw) {
			r.ok(r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(request("GET", "/")...), EndStream: true, EndHeaders: true, PadLength: 9, Priority: http2.PriorityParam{StreamDep: 0, Weight: 255, Exclusive: true}}))
		}, []string{hello}},
		"4.1 an unknown frame":     {func(r *raw) { rawFrame(0x16, 0, 0, make([]byte, 8))(r); get(r, 1) }, []string{hello}},
		"4.1 unknown flags":        {func(r *raw) { rawFrame(http2.FramePing, 0x16, 0, []byte("12345678"))(r) }, []string{"PING 12345678"}},
		"4.2 a large frame":        {posting("/body", rawFrame(http2.FrameData, 0, 1, make([]byte, 16385))), []string{size}},
		"4.2 a large header frame": {rawFrame(http2.FrameHeaders, 5, 1, make([]byte, 16385)), []string{size}},
		"4.3 a bad header block":   {rawFrame(http2.FrameHeaders, 5, 1, []byte{0x40}), []string{"GOAWAY COMPRESSION_ERROR"}},
		"4.3 an unknown index":     {rawFrame(http2.FrameHeaders, 5, 1, []byte{0xfe}), []string{"GOAWAY COMPRESSION_ERROR"}},
		"4.3 priority amid headers": {func(r *raw) {
			rawFrame(http2.FrameHeaders, 1, 1, r.block(request("GET", "/")...))(r)
			r.ok(r.f.WritePriority(1, http2.PriorityParam{Weight: 1}))
		}, []string{protocol}},
		"4.3 another stream amid headers": {func(r *raw) { rawFrame(http2.FrameHeaders, 1, 1, r.block(request("GET", "/")...))(r); get(r, 3) }, []string{protocol}},
		"5.1 idle: data":                  {rawFrame(http2.FrameData, 1, 1, []byte("x")), []string{protocol}},
		"5.1 idle: reset":                 {rawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 4)), []string{protocol}},
		"5.1 idle: window":                {rawFrame(http2.FrameWindowUpdate, 0, 1, []byte{0, 0, 0, 9}), []string{protocol}},
		"5.1 idle: continuation":          {rawFrame(http2.FrameContinuation, 4, 1, nil), []string{protocol}},
		"5.1 half closed: data":           {held(rawFrame(http2.FrameData, 1, 1, []byte("x"))), []string{"RST 1 STREAM_CLOSED"}},
		"5.1 half closed: headers":        {held(func(r *raw) { get(r, 1) }), []string{"RST 1 STREAM_CLOSED"}},
		"5.1 half closed: continuation":   {held(rawFrame(http2.FrameContinuation, 4, 1, nil)), []string{protocol}},
		"5.1 half closed: priority, window": {held(func(r *raw) {
			r.ok(r.f.WritePriority(1, http2.PriorityParam{Weight: 1}))
			r.ok(r.f.WriteWindowUpdate(1, 5))
			get(r, 3)
		}), []string{"HEADERS 3 200 END"}},
		"5.1 closed: data":    {func(r *raw) { get(r, 1); r.said(); rawFrame(http2.FrameData, 1, 1, nil)(r) }, []string{"RST 1 STREAM_CLOSED"}},
		"5.1 closed: headers": {func(r *raw) { get(r, 1); r.said(); get(r, 1) }, []string{"GOAWAY STREAM_CLOSED"}},
		"5.1 closed: window, priority, reset": {func(r *raw) {
			get(r, 1)
			r.said()
			r.ok(r.f.WriteWindowUpdate(1, 5))
			r.ok(r.f.WriteRSTStream(1, 8))
			r.ok(r.f.WritePriority(1, http2.PriorityParam{Weight: 1}))
			get(r, 3)
		}, []string{"HEADERS 3 200 END"}},
		"5.1 reset: headers":      {held(func(r *raw) { r.ok(r.f.WriteRSTStream(1, 8)); get(r, 1) }), []string{"GOAWAY STREAM_CLOSED"}},
		"5.1 reset: data":         {held(func(r *raw) { r.ok(r.f.WriteRSTStream(1, 8)); rawFrame(http2.FrameData, 1, 1, nil)(r) }), []string{"RST 1 STREAM_CLOSED"}},
		"5.1.1 an even number":    {func(r *raw) { get(r, 2) }, []string{protocol}},
		"5.1.1 a smaller number":  {func(r *raw) { r.headers(5, true, request("GET", "/hold")...); get(r, 3) }, []string{protocol}},
		"5.3.1 depends on itself": {func(r *raw) { r.ok(r.f.WritePriority(1, http2.PriorityParam{StreamDep: 1})) }, []string{stream}},
		"5.3.1 depends on itself, headers": {func(r *raw) {
			r.ok(r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(request("GET", "/")...), EndHeaders: true, EndStream: true, Priority: http2.PriorityParam{StreamDep: 1, Weight: 1}}))
		}, []string{stream}},
		"6.1 data on the connection":         {rawFrame(http2.FrameData, 0, 0, []byte("x")), []string{protocol}},
		"6.1 padding of more than the frame": {posting("/body", rawFrame(http2.FrameData, 8, 1, []byte{6, 'x', 0, 0, 0})), []string{protocol}},
		"6.1 padded data":                    {posting("/body", func(r *raw) { r.ok(r.f.WriteDataPadded(1, true, []byte("hello"), make([]byte, 99))) }), []string{"HEADERS 1 200", "DATA 1 hello END"}},
		"6.2 headers on the connection":      {rawFrame(http2.FrameHeaders, 5, 0, nil), []string{protocol}},
		"6.2 padding of more than the frame": {rawFrame(http2.FrameHeaders, 0x0d, 1, []byte{9, 0x82}), []string{protocol}},
		"6.3 priority on the connection":     {rawFrame(http2.FramePriority, 0, 0, make([]byte, 5)), []string{protocol}},
		"6.3 priority of a wrong size":       {rawFrame(http2.FramePriority, 0, 1, make([]byte, 4)), []string{size}},
		"6.4 reset on the connection":        {rawFrame(http2.FrameRSTStream, 0, 0, make([]byte, 4)), []string{protocol}},
		"6.4 reset of a wrong size":          {held(rawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3))), []string{size}},
		"6.5 acknowledged with a payload":    {rawFrame(http2.FrameSettings, 1, 0, make([]byte, 6)), []string{size}},
		"6.5 settings of a stream":           {rawFrame(http2.FrameSettings, 0, 1, make([]byte, 6)), []string{protocol}},
		"6.5 settings of a wrong size":       {rawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)), []string{size}},
		"6.5.2 push that is no bool":         {rawFrame(http2.FrameSettings, 0, 0, settingsPayload(http2.SettingEnablePush, 2)), []string{protocol}},
		"6.5.2 too large a window":           {rawFrame(http2.FrameSettings, 0, 0, settingsPayload(http2.SettingInitialWindowSize, 1<<31)), []string{flow}},
		"6.5.2 too small a frame":            {rawFrame(http2.FrameSettings, 0, 0, settingsPayload(http2.SettingMaxFrameSize, 16383)), []string{protocol}},
		"6.5.2 too large a frame":            {rawFrame(http2.FrameSettings, 0, 0, settingsPayload(http2.SettingMaxFrameSize, 1<<24)), []string{protocol}},
		"6.5.2 an unknown setting":           {func(r *raw) { rawFrame(http2.FrameSettings, 0, 0, settingsPayload(0xff, 1))(r); get(r, 1) }, []string{hello}},
		"6.6 a promise": {func(r *raw) {
			r.ok(r.f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: r.block(request("GET", "/")...), EndHeaders: true}))
		}, []string{protocol}},
		"6.7 a ping":                        {func(r *raw) { r.ok(r.f.WritePing(false, [8]byte([]byte("abcdefgh")))) }, []string{"PING abcdefgh"}},
		"6.7 a ping's answer":               {func(r *raw) { r.ok(r.f.WritePing(true, [8]byte{})); get(r, 1) }, []string{hello}},
		"6.7 a ping of a stream":            {rawFrame(http2.FramePing, 0, 1, make([]byte, 8)), []string{protocol}},
		"6.7 a ping of a wrong size":        {rawFrame(http2.FramePing, 0, 0, make([]byte, 6)), []string{size}},
		"6.8 a farewell of a stream":        {rawFrame(http2.FrameGoAway, 0, 1, make([]byte, 8)), []string{protocol}},
		"6.8 a farewell":                    {func(r *raw) { r.ok(r.f.WriteGoAway(0, 0, nil)); get(r, 1) }, []string{hello}},
		"6.9 a window of nothing":           {rawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4)), []string{protocol}},
		"6.9 a stream's window of nothing":  {held(rawFrame(http2.FrameWindowUpdate, 0, 1, make([]byte, 4))), []string{stream}},
		"6.9 a window of a wrong size":      {rawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 3)), []string{size}},
		"6.9.1 too large a window":          {func(r *raw) { r.ok(r.f.WriteWindowUpdate(0, maxWindow)) }, []string{flow}},
		"6.9.1 too large a stream's window": {held(func(r *raw) { r.ok(r.f.WriteWindowUpdate(1, maxWindow)) }), []string{"RST 1 FLOW_CONTROL_ERROR"}},
		"6.9.2 a window that grows": {func(r *raw) {
			r.ok(r.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}))
			r.headers(1, true, request("GET", "/long")...)
			if got := r.said() + "," + r.said(); got != "HEADERS 1 200,DATA 1 x" {
				r.t.Error(got)
			}
			r.ok(r.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4}))
			if got := r.said(); got != "DATA 1 xxx" {
				r.t.Error(got)
			}
			r.ok(r.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})) // the window is -4 now
			r.ok(r.f.WriteWindowUpdate(1, 6))
		}, []string{"DATA 1 xx"}},
		"6.9.2 a window that grows too large": {held(func(r *raw) {
			r.ok(r.f.WriteWindowUpdate(1, 1000))
			r.ok(r.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow}))
		}), []string{flow}},
		"6.10 continued": {func(r *raw) {
			b := r.block(request("GET", "/")...)
			rawFrame(http2.FrameHeaders, 1, 1, b[:1])(r)
			for _, p := range b[1:] {
				r.ok(r.f.WriteContinuation(1, false, []byte{p}))
			}
			r.ok(r.f.WriteContinuation(1, true, nil))
		}, []string{hello}},
		"6.10 continued after the end":    {func(r *raw) { get(r, 1); r.said(); r.ok(r.f.WriteContinuation(1, true, nil)) }, []string{protocol}},
		"8.1 trailers":                    {posting("/body", func(r *raw) { r.ok(r.f.WriteData(1, false, []byte("ab"))); r.headers(1, true, "x-t", "v") }), []string{"HEADERS 1 200", "DATA 1 ab END"}},
		"8.1 a second header":             {posting("/hold", func(r *raw) { r.headers(1, false, "x-t", "v") }), []string{stream}},
		"8.1 pseudo trailers":             {posting("/hold", func(r *raw) { r.headers(1, true, ":path", "/") }), []string{stream}},
		"8.1.2 upper case":                {malformed(request("GET", "/", "X-Up", "v")...), []string{stream}},
		"8.1.2 no token":                  {malformed(request("GET", "/", "x y", "v")...), []string{stream}},
		"8.1.2 an empty name":             {malformed(request("GET", "/", "", "v")...), []string{stream}},
		"8.1.2 a line break in a value":   {malformed(request("GET", "/", "x-a", "v\r\nx-b: w")...), []string{stream}},
		"8.1.2.1 an unknown pseudo field": {malformed(request("GET", "/", ":x", "v")...), []string{stream}},
		"8.1.2.1 :status":                 {malformed(append([]string{":status", "200"}, request("GET", "/")...)...), []string{stream}},
		"8.1.2.1 :protocol":               {malformed(append([]string{":protocol", "websocket"}, request("CONNECT", "/")...)...), []string{stream}},
		"8.1.2.1 pseudo after regular":    {malformed(append([]string{"x-a", "v"}, request("GET", "/")...)...), []string{stream}},
		"8.1.2.2 connection":              {malformed(request("GET", "/", "connection", "keep-alive")...), []string{stream}},
		"8.1.2.2 transfer-encoding":       {malformed(request("POST", "/", "transfer-encoding", "chunked")...), []string{stream}},
		"8.1.2.2 te":                      {malformed(request("GET", "/", "te", "trailers, deflate")...), []string{stream}},
		"8.1.2.3 an empty path":           {malformed(request("GET", "")...), []string{stream}},
		"8.1.2.3 no method":               {malformed(":scheme", "https", ":path", "/"), []string{stream}},
		"8.1.2.3 no scheme":               {malformed(":method", "GET", ":path", "/"), []string{stream}},
		"8.1.2.3 no path":                 {malformed(":method", "GET", ":scheme", "https"), []string{stream}},
		"8.1.2.3 two methods":             {malformed(append([]string{":method", "GET"}, request("GET", "/")...)...), []string{stream}},
		"8.1.2.3 two paths":               {malformed(append([]string{":path", "/"}, request("GET", "/")...)...), []string{stream}},
		"8.1.2.3 a method of two words":   {malformed(request("GET / HTTP/1.1", "/")...), []string{stream}},
		"8.1.2.3 no slash":                {malformed(request("GET", "api")...), []string{stream}},
		"8.1.2.3 a space in a path":       {malformed(request("GET", "/a HTTP/1.1")...), []string{stream}},
		"8.1.2.3 a line break in a path":  {malformed(request("GET", "/a\r\nx: y")...), []string{stream}},
		"8.1.2.3 a user in the authority": {malformed(":method", "GET", ":scheme", "https", ":path", "/", ":authority", "me@x"), []string{stream}},
		"8.1.2.3 a path in the authority": {malformed(":method", "GET", ":scheme", "https", ":path", "/", ":authority", "x/y z"), []string{stream}},
		"8.1.2.3 another host":            {malformed(request("GET", "/", "host", "other")...), []string{stream}},
		"8.1.2.3 two hosts":               {malformed(":method", "GET", ":scheme", "https", ":path", "/", "host", "a", "host", "a"), []string{stream}},
		"8.1.2.3 a host alone":            {malformed(":method", "GET", ":scheme", "https", ":path", "/", "host", "a"), []string{hello}},
		"8.1.2.3 another scheme":          {malformed(":method", "GET", ":scheme", "ftp", ":path", "/"), []string{stream}},
		"8.1.2.6 more than the length":    {posting("/body", func(r *raw) { r.ok(r.f.WriteData(1, true, []byte("ab"))) }, "content-length", "1"), []string{stream}},
		"8.1.2.6 less than the length":    {posting("/body", func(r *raw) { r.ok(r.f.WriteData(1, true, []byte("ab"))) }, "content-length", "3"), []string{stream}},
		"8.1.2.6 less, with trailers":     {posting("/body", func(r *raw) { r.ok(r.f.WriteData(1, false, []byte("ab"))); r.headers(1, true, "x-t", "v") }, "content-length", "3"), []string{stream}},
		"8.1.2.6 a length and no body":    {malformed(request("POST", "/", "content-length", "1")...), []string{stream}},
		"8.1.2.6 two lengths":             {malformed(request("POST", "/", "content-length", "0", "content-length", "1")...), []string{stream}},
		"8.1.2.6 no number":               {malformed(request("POST", "/", "content-length", "+0")...), []string{stream}},
		"8.5 connect":                     {malformed(":method", "CONNECT", ":authority", "x:1"), []string{stream}},
		"the rest of a body that nobody reads": {posting("/", func(r *raw) {
			if got := r.said() + "," + r.said(); got != hello+",RST 1 NO_ERROR" {
				r.t.Error(got)
			}
			r.ok(r.f.WriteData(1, false, []byte("late")))
			r.headers(1, true, "x-t", "late")
			get(r, 3)
		}), []string{"HEADERS 3 200 END"}},
		"100-continue": {posting("/body", func(r *raw) {
			if got := r.said(); got != "HEADERS 1 100" {
				r.t.Error(got)
			}
			r.ok(r.f.WriteData(1, true, []byte("x")))
		}, "expect", "100-continue"), []string{"HEADERS 1 200", "DATA 1 x END"}},
		"a header that is too large": {func(r *raw) {
			for id := uint32(1); id <= 3; id += 2 {
				b := r.block(request("GET", "/", "x-a", strings.Repeat("ab", 12<<10), "x-b", strings.Repeat("b", 24<<10), "x-c", strings.Repeat("cd", 10<<10))...)
				r.ok(r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:16<<10], EndStream: true}))
				for b = b[16<<10:]; len(b) > 16<<10; b = b[16<<10:] {
					r.ok(r.f.WriteContinuation(id, false, b[:16<<10]))
				}
				r.ok(r.f.WriteContinuation(id, true, b))
				for got := ""; !strings.HasSuffix(got, "END"); {
					if got = r.said(); strings.HasPrefix(got, "HEADERS") && !strings.Contains(got, "431") || got == "closed" {
						r.t.Fatal(got)
					}
				}
			}
			get(r, 5)
		}, []string{"HEADERS 5 200 END"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, hold(t), &Config{})
			r := s.open()
			r.t = t
			c.in(r)
			for _, want := range c.want {
				if got := r.said(); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
			}
			if last := c.want[len(c.want)-1]; strings.HasPrefix(last, "GOAWAY") {
				if got := r.said(); got != "closed" {
					t.Errorf("after the end: %q", got)
				}
			}
		})
	}
}

// A connection must begin as one of HTTP/2 does.
func TestPreface(t *testing.T) {
	for name, begin := range map[string]string{
		"another preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r!" + strings.Repeat("x", 100),
		"HTTP/1":          "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"no settings":     http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x00abcdefgh",
		"acknowledged":    http2.ClientPreface + "\x00\x00\x00\x04\x01\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			r := newSite(t, http.NotFoundHandler(), &Config{}).dial()
			_, err := io.WriteString(r.conn, begin)
			r.ok(err)
			if got := r.said() + ", " + r.said(); got != "GOAWAY PROTOCOL_ERROR, closed" {
				t.Error(got)
			}
		})
	}
}

// TLS 1.2 is taken with the suites that HTTP/2 allows.
func TestSuites(t *testing.T) {
	s := newSite(t, hold(t), &Config{})
	for suite, want := range map[uint16]string{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "HEADERS 1 200 END",
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:    "GOAWAY INADEQUATE_SECURITY",
	} {
		cfg := clientTLS()
		cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{suite}
		r := s.over(cfg)
		_, _ = io.WriteString(r.conn, http2.ClientPreface)
		_ = r.f.WriteSettings()
		_ = r.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(request("GET", "/")...), EndStream: true, EndHeaders: true})
		if got := r.said(); got != want {
			t.Errorf("%s: %s", tls.CipherSuiteName(suite), got)
		}
	}
}
