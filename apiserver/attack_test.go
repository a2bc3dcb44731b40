package apiserver_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/access/admission"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apiserver"
	"github.com/proa-dev/proa/apiserver/catalog"
	"github.com/proa-dev/proa/store"
)

// edited is newHouse with a configuration of its own.
func edited(t *testing.T, edit func(*apiserver.Config)) *house {
	t.Helper()
	return newHouseOn(t, store.Config{Dir: t.TempDir(), Events: historyLength}, nil,
		func(api.Reader, *rules, *catalog.Catalog) []admission.Step { return nil }, edit)
}

// connect opens a connection that speaks HTTP/1.1, on which bytes go out as they are.
func (h *house) connect(t *testing.T) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	conf := h.front.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.NextProtos, conf.ServerName = []string{"http/1.1"}, "example.com"
	conn, err := tls.Dial("tcp", h.front.Listener.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// rawCaller sends request lines as they are, on one connection as long as it lasts.
type rawCaller struct {
	h    *house
	conn *tls.Conn // nil: none
	in   *bufio.Reader
}

// raw sends the request line as it is and gives the answer, 0 when there is none.
func (c *rawCaller) raw(t *testing.T, token, line string) (int, string) {
	t.Helper()
	for {
		fresh := c.conn == nil
		if fresh {
			c.conn, c.in = c.h.connect(t)
		}
		code, body, err := c.ask(token, line)
		if err != nil {
			c.hangUp()
		}
		switch {
		case err == nil:
			return code, body
		case fresh:
			return 0, err.Error() // cut off
		}
	}
}

func (c *rawCaller) ask(token, line string) (int, string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return 0, "", err
	}
	fmt.Fprintf(c.conn, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", line, token)
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	if answer.Close || err != nil || len(body) == 1<<16 {
		c.hangUp()
	}
	return answer.StatusCode, string(body), nil
}

func (c *rawCaller) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close() // the server may have been first
		c.conn = nil
	}
}

// Names that want to be more than a name, in each place of a path that takes one, get nobody
// anything that the plain path does not give: eve may do everything to config maps of
// namespace default, and nothing else (CVE-2015-5305, CVE-2022-3162).
func TestAttackPaths(t *testing.T) {
	h := newHouse(t)
	out := &rawCaller{h: h}
	c := h.typed("root")
	if _, err := c.CoreV1().Secrets("kube-system").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"k": "hush"}, Data: map[string][]byte{"hush": []byte("hush")}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().ConfigMaps("kube-system").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Data: map[string]string{"k": "hush"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := h.store.Revision()
	h.rules.set(func(a *access.Attributes) bool {
		return a.User.Name == "eve" && a.Resource && a.Plural == "configmaps" && a.Group == "" && a.Namespace == "default"
	})
	climb := []string{"..", "../..", "..%2f..", "%2e%2e", "%2e%2e%2f%2e%2e", ".%2e", "..%5c..", "..;", "%252e%252e", ".", "%2f", "%00", "%00/..", "", "a%00b", "m%2f..%2fm", "%c0%ae%c0%ae", "*"}
	target := []string{"kube-system/configmaps/m", "kube-system/secrets/s", "kube-system/secrets", "kube-system%2fsecrets%2fs", "namespaces/kube-system/secrets/s", "secrets/kube-system/s", "registry/secrets/kube-system/s"}
	for _, up := range climb {
		for _, to := range target {
			for _, path := range []string{
				"/api/v1/namespaces/default/configmaps/" + up + "/" + to, "/api/v1/namespaces/default/configmaps/" + up + to, "/api/v1/namespaces/default/" + up + "/" + to,
				"/api/v1/namespaces/" + up + "/" + to, "/api/v1/namespaces/default" + up + "/" + to, "/api/" + up + "/v1/namespaces/" + to, "/apis/" + up + "/v1/" + to,
				"/api/v1/watch/namespaces/default/configmaps/" + up + "/" + to, "/api/v1/namespaces/default/configmaps/m/" + up + "/" + to,
			} {
				method := "GET"
				if len(path)%5 == 0 {
					method = "DELETE"
				}
				code, body := out.raw(t, "eve", method+" "+path)
				if code == http.StatusInternalServerError || strings.Contains(body, "hush") || code == http.StatusOK && !strings.Contains(body, `"items":[]`) {
					t.Errorf("%s %s: %d %s", method, path, code, body)
				}
			}
		}
	}
	for _, name := range climb {
		for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "POST"} {
			code, body := out.raw(t, "root", method+" /api/v1/namespaces/default/configmaps/"+name)
			if code >= 500 && name != "" || code == http.StatusCreated {
				t.Errorf("%s %q: %d %s", method, name, code, body)
			}
		}
	}
	if now := h.store.Revision(); now != before {
		t.Errorf("something was written: revision %d became %d", before, now)
	}
}

// Who may read what lies below a path reads nothing else by climbing out of it.
func TestAttackClimbingPaths(t *testing.T) {
	h := edited(t, func(c *apiserver.Config) {
		c.Paths = map[string]http.Handler{"/debug/pprof/": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hush") })}
	})
	out := &rawCaller{h: h}
	h.rules.set(func(a *access.Attributes) bool {
		return !a.Resource && (strings.HasPrefix(a.Path, "/api/") || strings.HasPrefix(a.Path, "/openapi/") || strings.HasPrefix(a.Path, "/healthz/"))
	})
	for _, under := range []string{"/api/", "/openapi/", "/healthz/", "/api/v1/", "/openapi/v3/"} {
		for _, up := range []string{"..", "../..", "%2e%2e", "%2e%2e/%2e%2e", ".", "", "..%2f..", "%2e%2e%5c"} {
			for _, to := range []string{"/debug/pprof/", "/debug/pprof/heap", "/metrics", "/version", "/debug/api_priority_and_fairness/dump_priority_levels"} {
				code, body := out.raw(t, "eve", "GET "+under+up+to)
				if code == http.StatusOK || code >= 500 || strings.Contains(body, "hush") {
					t.Errorf("%s: %d %.100s", under+up+to, code, body)
				}
			}
		}
	}
	if code, body := out.raw(t, "root", "GET /debug/pprof/"); code != http.StatusOK || body != "hush" {
		t.Errorf("%d %s", code, body)
	}
}

// Two readers of one byte stream must not disagree where a request ends (CVE-2019-16276).
func TestAttackSmuggling(t *testing.T) {
	h := newHouse(t)
	const inner = "GET /api/v1/namespaces/kube-system/secrets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer root\r\n\r\n"
	for name, head := range map[string]string{
		"space in a name":   "Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n",
		"two lengths":       "Content-Length: 0\r\nContent-Length: 90\r\n\r\n",
		"signed length":     "Content-Length: +0\r\n\r\n",
		"folded header":     "X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
		"unknown coding":    "Transfer-Encoding: xchunked\r\n\r\n",
		"two codings":       "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
		"bare line feed":    "Content-Length: 0\nX: y\r\n\r\n",
		"control in a name": "X\x01: y\r\n\r\n",
		"bad chunk size":    "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
	} {
		conn, in := h.connect(t)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer eve\r\nContent-Type: application/json\r\n%s%s", maps, head, inner)
		for i := range 2 {
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				break // cut off after the first answer at the latest
			}
			body, _ := io.ReadAll(answer.Body)
			// The second request is the attacker's own and carries what it takes to be believed; what must
			// not be is that a request counts as ended at a place another server would not see.
			if i > 0 && name != "bare line feed" && name != "folded header" {
				t.Errorf("%s: a second answer: %d %.100s", name, answer.StatusCode, body)
			}
		}
	}
}

// What is sent compressed is not decompressed: a bomb stays as small as it is.
func TestAttackGzipBomb(t *testing.T) {
	h := newHouse(t)
	var one bytes.Buffer
	z := gzip.NewWriter(&one)
	if _, err := z.Write(make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := strings.Repeat(one.String(), 64) // 256 MiB: a stream may have many parts
	if a := h.do("POST", maps, bomb, "Content-Encoding", "gzip"); a.code != http.StatusBadRequest {
		t.Errorf("%d %.200s", a.code, a.body)
	}
}

// put stores a config map of so many bytes, past all limits of time.
func (h *house) put(t *testing.T, name string, size int) {
	t.Helper()
	kind, _ := h.store.Collection(corev1.Resource("configmaps"))
	if _, err := kind.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{"k": strings.Repeat("x", size)},
	}); err != nil {
		t.Fatal(err)
	}
}

// Who sends a body slowly, or does not take an answer, gives back his place in time.
func TestAttackSlowClients(t *testing.T) {
	t.Parallel() // it waits
	h := edited(t, func(c *apiserver.Config) { c.RequestTimeout = 3 * time.Second })
	conn, in := h.connect(t)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer root\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", maps)
	begun := time.Now()
	answer, err := http.ReadResponse(in, nil)
	if err == nil && answer.StatusCode < 400 {
		t.Errorf("half a body was taken: %d", answer.StatusCode)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("a slow body was waited for for %s", took)
	}
	for i := range 12 {
		h.put(t, fmt.Sprintf("m%d", i), 900<<10)
	}
	for _, query := range []string{"", "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1"} {
		conn, _ := h.connect(t)
		fmt.Fprintf(conn, "GET %s%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer root\r\n\r\n", maps, query)
		h.awaitPlaces(t, 1) // it stands there, its answer not taken
		begun := time.Now()
		h.awaitPlaces(t, 0)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%q held a place for %s", query, took)
		}
		_ = conn.Close()
	}
}

// Who watches and does not take what he is sent is disconnected, and what waited for him is let go.
func TestAttackSlowWatcher(t *testing.T) {
	t.Parallel() // it waits
	h := edited(t, func(c *apiserver.Config) { c.RequestTimeout = 3 * time.Second })
	conn, _ := h.connect(t)
	fmt.Fprintf(conn, "GET %s?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer root\r\n\r\n", maps)
	watches := func(n int) bool {
		return strings.Contains(h.metrics(t), fmt.Sprintf("resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} %d\n", n))
	}
	for i := 0; !watches(1); i++ {
		if i > 1000 {
			t.Fatal("the watch never begins")
		}
		time.Sleep(5 * time.Millisecond)
	}
	for i := range 20 { // more than what the sockets hold
		h.put(t, fmt.Sprintf("l%d", i), 900<<10)
	}
	for i := range historyLength + 10 {
		h.put(t, fmt.Sprintf("s%d", i), 1)
	}
	begun := time.Now()
	for !watches(0) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the watch goes on")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// metrics are those of the server, asked for until they come in time: the tests of slow
// clients have servers that give up early, and the machine may be busy.
func (h *house) metrics(t *testing.T) string {
	t.Helper()
	for range 100 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.front.URL+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer root")
		answer, err := h.front.Client().Do(r)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // read, or cut off
		if err == nil && answer.StatusCode == http.StatusOK {
			return string(text)
		}
	}
	t.Fatal("no metrics in a hundred tries")
	return ""
}

// awaitPlaces waits until requests hold n seats of the level that root's requests are in.
func (h *house) awaitPlaces(t *testing.T, n int) {
	t.Helper()
	for range 1000 {
		executing := 0
		for line := range strings.SplitSeq(h.metrics(t), "\n") {
			if strings.HasPrefix(line, "apiserver_flowcontrol_current_executing_requests{") && !strings.HasSuffix(line, " 0") {
				var value int
				if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &value); err == nil {
					executing += value
				}
			}
		}
		if executing-1 >= n && n > 0 || n == 0 && executing <= 1 { // the one that asks is among them
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("requests never held %d places", n)
}

// logged takes a log and can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// At the highest verbosity no log holds a credential or the content of a secret, and nothing that
// a client sends begins a line or a terminal sequence of its own (CVE-2019-11250,
// CVE-2020-8565, CVE-2021-25743).
func TestAttackLogs(t *testing.T) {
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.Level(-10)})
		},
		"json": func(w io.Writer) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.Level(-10)})
		},
	} {
		var log logged
		h := edited(t, func(c *apiserver.Config) { c.Log = slog.New(handler(&log)) })
		secret := `{"metadata":{"name":"s"},"stringData":{"k":"hushhush"}}`
		h.do("POST", "/api/v1/namespaces/default/secrets", secret)
		h.do("POST", "/api/v1/namespaces/default/secrets", secret+"broken", "Authorization", "Bearer tokentoken")
		h.do("GET", "/api/v1/namespaces/default/secrets?token=tokentoken", "", "Authorization", "Bearer bad", "X-Remote-User", "tokentoken")
		h.do("GET", "/a%0aINFO%20forged%1b%5b31m%0d%0a", "", "Authorization", "Bearer bad")
		h.do("GET", "/api/v1/namespaces/default/pods/a%0aINFO%20forged%1b%5b31m/log", "", "Authorization", "")
		h.do("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", `{"spec":{}}`, "Sec-Websocket-Protocol", "base64url.bearer.authorization.k8s.io.dG9rZW50b2tlbg")
		text := log.String()
		if text == "" {
			t.Errorf("%s: nothing is logged, so nothing is tested", name)
		}
		for _, bad := range []string{"hushhush", "tokentoken", "dG9rZW50b2tlbg", "\x1b", "\r", "\nINFO"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: %q is in the log:\n%s", name, bad, text)
			}
		}
	}
}

// strangers are tokens that know anonymous too.
type strangers struct{ tokens }

func (s strangers) Authenticate(r *http.Request) (*api.User, error) {
	if r.Header.Get("Authorization") == "Bearer nobody" {
		return &api.User{Name: access.Anonymous, Groups: []string{"system:unauthenticated"}}, nil
	}
	return s.tokens.Authenticate(r)
}

// Whom nobody knows is disconnected over HTTP/2: each further try costs a handshake
// (CVE-2023-44487); the others stay.
func TestAttackStrangersOverHTTP2(t *testing.T) {
	h := edited(t, func(c *apiserver.Config) { c.Authenticator = strangers{} })
	for token, want := range map[string]bool{"Bearer bad": true, "": true, "Bearer nobody": true, "Bearer eve": false, "Bearer root": false} {
		client := &http.Client{Transport: h.front.Client().Transport.(*http.Transport).Clone()}
		again := 0
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if !i.Reused {
				again++
			}
		}}
		for range 10 {
			r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, h.front.URL+maps, nil)
			if err != nil {
				t.Fatal(err)
			}
			if token != "" {
				r.Header.Set("Authorization", token)
			}
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			if answer.ProtoMajor != 2 {
				t.Fatalf("%s", answer.Proto)
			}
			time.Sleep(5 * time.Millisecond) // for the goodbye to arrive
		}
		if closed := again > 5; closed != want {
			t.Errorf("%q: %d connections for ten requests", token, again)
		}
		client.CloseIdleConnections()
	}
}
