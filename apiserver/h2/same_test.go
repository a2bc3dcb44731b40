package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// cases are handlers, odd ones too, and what they are asked.
var cases = []struct {
	name, method, path, body string
	header                   http.Header
	trailer                  http.Header // of the request
	handler                  http.HandlerFunc
}{
	{name: "nothing", handler: func(http.ResponseWriter, *http.Request) {}},
	{name: "small", handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }},
	{name: "own type", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header()["X-Many"] = []string{"a", "b"}
		w.WriteHeader(http.StatusCreated)
		w.Header().Set("X-Late", "no")
		_, _ = io.WriteString(w, "{}")
	}},
	{name: "html", handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html><body>") }},
	{name: "coded", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "x")
		_, _ = io.WriteString(w, "abc")
	}},
	{name: "just kept", handler: repeat(4096, 1)},
	{name: "just not kept", handler: repeat(4097, 1)},
	{name: "many writes", handler: repeat(1000, 500)},
	{name: "large", handler: repeat(3<<20, 1)},
	{name: "flushed", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		for range 3 {
			_, _ = io.WriteString(w, "part")
			w.(http.Flusher).Flush()
		}
	}},
	{name: "length", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		n, err := io.WriteString(w, "hello")
		if n != 5 || err != nil {
			panic(err)
		}
	}},
	{name: "bad length", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "many")
		_, _ = io.WriteString(w, "hello")
	}},
	{name: "head", method: "HEAD", handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }},
	{name: "head of a length", method: "HEAD", handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "77") }},
	{name: "head, large", method: "HEAD", handler: repeat(9000, 2)},
	{name: "no content", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic(err)
		}
	}},
	{name: "not modified", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }},
	{name: "early hints", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "x")
	}},
	{name: "trailers", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-None")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "4")
		w.Header().Set(http.TrailerPrefix+"X-Undeclared", "yes")
	}},
	{name: "trailers without a body", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(http.TrailerPrefix+"X-Undeclared", "yes")
	}},
	{name: "headers of connections", handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Transfer-Encoding", "chunked")
		w.Header().Set("Bad Name", "x")
		w.Header().Set("X-Bad", "a\x00b")
		_, _ = io.WriteString(w, "x")
	}},
	{name: "post", method: "POST", body: "a body", handler: echo},
	{name: "post, large", method: "POST", body: strings.Repeat("abcdefgh", 200_000), handler: echo},
	{name: "post, not read", method: "POST", body: strings.Repeat("x", 100), handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }},
	{name: "post, closed", method: "POST", body: strings.Repeat("x", 100), handler: func(w http.ResponseWriter, r *http.Request) {
		_ = r.Body.Close()
		_, err := r.Body.Read(make([]byte, 1))
		fmt.Fprint(w, err != nil)
	}},
	{name: "post with trailers", method: "POST", body: "text", trailer: http.Header{"X-Sum": {"12"}}, handler: echo},
	{name: "expected", method: "POST", body: "text", header: http.Header{"Expect": {"100-continue"}}, handler: echo},
	{name: "aborts", handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	{name: "aborts late", handler: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}},
	{name: "asked", path: "/a%2Fb/c?x=1&y=%20", header: http.Header{"Cookie": {"a=b; c=d"}, "X-Odd_Name": {"v"}, "Te": {"trailers"}}, handler: echo},
	{name: "star", method: "OPTIONS", path: "*", handler: echo},
}

func repeat(size, times int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for range times {
			if _, err := w.Write(bytes.Repeat([]byte("x"), size)); err != nil {
				return
			}
		}
	}
}

// echo tells everything of a request.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	_, server := r.Context().Value(http.ServerContextKey).(*http.Server)
	fmt.Fprintln(w, r.Method, r.URL.Path, r.URL.RawQuery, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Host != "", r.ContentLength, len(body), err, r.TLS.NegotiatedProtocol, r.RemoteAddr != "", r.Form, r.TransferEncoding, r.Close)
	for _, k := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintln(w, k, r.Header[k])
	}
	fmt.Fprintln(w, r.Trailer, local != nil, server)
	_, _ = w.Write(body[:min(100, len(body))])
}

// outcome is all that a client sees.
func outcome(c *http.Client, base string, i int) string {
	k := cases[i]
	var b strings.Builder
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusContinue { // which is not said when the body is there already
			return nil
		}
		fmt.Fprintln(&b, "informed:", code, h)
		return nil
	}}
	var body io.Reader
	if k.body != "" {
		body = strings.NewReader(k.body)
	}
	path := k.path
	if path == "" || path == "*" {
		path = "/"
	}
	r, err := http.NewRequest(k.method, base+path, body)
	if err != nil {
		return err.Error()
	}
	if k.path == "*" {
		r.URL.Opaque, r.URL.Path = "*", ""
	}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	maps.Copy(r.Header, k.header)
	r.Header.Set("X-Case", fmt.Sprint(i))
	if r.Trailer = k.trailer; k.trailer != nil {
		r.ContentLength = -1
	}
	resp, err := c.Do(r)
	if err != nil {
		return b.String() + "no answer"
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	resp.Header.Del("Date")
	fmt.Fprintln(&b, resp.Status, resp.ContentLength, err != nil, len(got), string(got[:min(len(got), 2000)]))
	for _, h := range []http.Header{resp.Header, resp.Trailer} {
		for _, k := range slices.Sorted(maps.Keys(h)) {
			fmt.Fprintln(&b, k, h[k])
		}
	}
	return b.String()
}

func dispatch(w http.ResponseWriter, r *http.Request) {
	var i int
	if _, err := fmt.Sscan(r.Header.Get("X-Case"), &i); err != nil {
		http.Error(w, "which?", http.StatusTeapot)
		return
	}
	cases[i].handler(w, r)
}

// crumbs passes a byte at a time, to both sides.
type crumbs struct {
	net.Conn
	r io.Reader
}

func (c crumbs) Read(p []byte) (int, error) { return c.r.Read(p) }
func (c crumbs) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// The same requests through x/net's server and through ours have the same answers.
func TestSameAsTheStandard(t *testing.T) {
	theirs, ours := newSite(t, http.HandlerFunc(dispatch), nil), newSite(t, http.HandlerFunc(dispatch), &Config{})
	standard, plain, slow := ours.standard(), ours.client(nil), ours.client(func(c net.Conn) net.Conn { return crumbs{c, iotest.OneByteReader(c)} })
	reference := theirs.client(nil)
	for i, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			want := outcome(reference, theirs.url(""), i)
			for name, c := range map[string]*http.Client{"x/net": plain, "net/http": standard, "slow": slow} {
				if name == "slow" && len(k.body) > 10_000 || k.name == "expected" && name == "net/http" {
					continue
				}
				begun := time.Now()
				if got := outcome(c, ours.url(""), i); got != want {
					t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
				}
				if took := time.Since(begun); took > 5*time.Second && name != "slow" {
					t.Errorf("%s took %s", name, took)
				}
			}
		})
	}
	for _, c := range []*http.Client{standard, plain, slow} {
		c.CloseIdleConnections()
	}
	noneLeft(t)
}
