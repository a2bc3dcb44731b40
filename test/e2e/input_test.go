package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/client-go/util/keyutil"
)

// TestWrongCommandLines wants one clear line for each wrong way to start.
func TestWrongCommandLines(t *testing.T) {
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		args   string
		wanted []string
	}{
		{args: "up --nosuch", wanted: []string{"unknown flag: --nosuch"}},
		{args: "upp", wanted: []string{`unknown command "upp"`}},
		{args: "up more", wanted: []string{"more"}},
		{args: "up --nodes=0", wanted: []string{"--nodes 0", "between 1 and"}},
		{args: "up --nodes=x", wanted: []string{"--nodes"}},
		{args: "up --log-level=loud", wanted: []string{"--log-level loud: must be debug, info, warn or error"}},
		{args: "up --https-port=99999", wanted: []string{"99999", "between 1 and 65535"}},
		{args: "up --cluster-cidr=nosuch", wanted: []string{"cluster-cidr", "nosuch"}},
		{args: "up --cluster-cidr=10.0.0.0/8 --service-cidr=10.1.0.0/16", wanted: []string{"overlap"}},
		{args: fmt.Sprintf("up --https-port=%d", port), wanted: []string{fmt.Sprint(port), "taken"}},
		{args: "down", wanted: []string{"no cluster"}},
		{args: "image load /nosuch.tar", wanted: []string{"no cluster"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			s := newSite(t)
			begun := time.Now()
			out, err := s.try(words(c.args)...)
			if err == nil {
				t.Errorf("proa %s succeeds:\n%s", c.args, out)
			}
			contains(t, "proa "+c.args, out, c.wanted...)
			if lines := strings.Count(strings.TrimSpace(out), "\n") + 1; lines > 6 || strings.Contains(out, "goroutine ") {
				t.Errorf("proa %s: %d lines are no clear error:\n%s", c.args, lines, out)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("proa %s: took %s to fail", c.args, took)
			}
		})
	}
}

// TestWithoutRunc hides the program that starts containers.
func TestWithoutRunc(t *testing.T) {
	s := newSite(t)
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip(err)
	}
	args := append([]string{"-m", "sh", "-c", `mount --bind /dev/null "$0" && exec "$@"`, runc, binary(t), "up"}, s.roots()...)
	out, err := exec.CommandContext(t.Context(), "unshare", args...).CombinedOutput()
	if err == nil {
		t.Errorf("up succeeds without runc:\n%s", out)
	}
	contains(t, "proa up", string(out), "runc", "apt-get install runc")
}

// TestWrongRequests sends what clients should not send.
func TestWrongRequests(t *testing.T) {
	s := up(t)
	t.Run("files", func(t *testing.T) { wrongFiles(t, s.with(t, "proa kubectl"), s.dir) })
	t.Run("fields", func(t *testing.T) { wrongFields(t, s.with(t, "proa kubectl")) })
	t.Run("bodies", func(t *testing.T) { wrongBodies(t, s) })
	t.Run("tokens", func(t *testing.T) { wrongTokens(t, s) })
	// It still serves.
	s.kubectl("get", "--raw", "/readyz")
}

func wrongFiles(t *testing.T, k *tool, dir string) {
	apply := words("apply -f -")
	k.input("a: [b\n").refuses(apply, "error parsing")
	k.input("kind: Pod\n").refuses(apply, "apiVersion not set")
	k.refuses(words("get nosuch"), `the server doesn't have a resource type "nosuch"`)
	k.input("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_Valid}\n").refuses(apply, `metadata.name: Invalid value: "Not_Valid"`, "RFC 1123")
	k.input("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: nosuch}\n").refuses(apply, `namespaces "nosuch" not found`)
	k.input("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n").refuses(apply, "spec.containers: Required value")
	k.input("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: b, ports: [{containerPort: 70000}]}]}\n").
		refuses(apply, "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive")
	k.input("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: b, resources: {requests: {memory: lots}}}]}\n").
		refuses(apply, "quantities must match the regular expression")
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("x"), 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	k.refuses(words("create configmap big --from-file="+big), "Too long: may not be more than 1048576 bytes")
}

func wrongFields(t *testing.T, k *tool) {
	object := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fields}\ndatum: {a: b}\n"
	k.input(object).refuses(words("create -f - --validate=strict"), `unknown field "datum"`)
	k.input(object).says(words("create -f - --validate=warn"), `Warning: unknown field "datum"`, "created")
	k.input(strings.Replace(object, "fields", "fields2", 1)).says(words("create -f - --validate=ignore"), "created")
}

// answer is the relevant part of a Status.
type answer struct {
	code int
	text string
}

// send makes one request as the administrator, through kubectl's certificate.
func (s *site) send(t *testing.T, method, path, contentType string, body io.Reader, header ...string) answer {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true} // the server is ours and on this machine
	if len(header) == 0 {
		pair, err := s.certificate()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	request, err := http.NewRequestWithContext(t.Context(), method, s.server()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
	got, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(io.LimitReader(got.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return answer{got.StatusCode, string(text)}
}

// certificate is the administrator's.
func (s *site) certificate() (tls.Certificate, error) {
	k := s.with(s.t, "proa kubectl")
	config := func(path string) string {
		return k.ok("config", "view", "--raw", "-o", "jsonpath={.users[0].user."+path+"}")
	}
	certificate, err := base64.StdEncoding.DecodeString(config("client-certificate-data"))
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := base64.StdEncoding.DecodeString(config("client-key-data"))
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certificate, key)
}

func wrongBodies(t *testing.T, s *site) {
	maps := "/api/v1/namespaces/default/configmaps"
	object := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}`
	for _, c := range []struct {
		name, method, path, contentType, body string
		code                                  int
		wanted                                string
	}{
		{"no JSON", "POST", maps, "application/json", `{"apiVersion":`, 400, `"reason":"BadRequest"`},
		{"empty", "POST", maps, "application/json", "", 400, `"reason":"BadRequest"`},
		{"no protobuf", "POST", maps, "application/vnd.kubernetes.protobuf", "k8s\x00\xff\xff\xff", 400, `"status":"Failure"`},
		{"no magic", "POST", maps, "application/vnd.kubernetes.protobuf", "nothing", 400, `"status":"Failure"`},
		{"unknown type", "POST", maps, "text/html", "<p>", 415, `"reason":"UnsupportedMediaType"`},
		{"4 MiB", "POST", maps, "application/json", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"data":{"x":"` + strings.Repeat("x", 4<<20) + `"}}`, 413, `"status":"Failure"`},
		{"deep", "POST", maps, "application/json", strings.Repeat(`{"a":`, 200000), 400, `"status":"Failure"`},
		{"another kind", "POST", maps, "application/json", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"b"}}`, 400, `"reason":"BadRequest"`},
		{"another namespace", "POST", maps, "application/json", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b","namespace":"other"}}`, 400, "the namespace of the provided object does not match"},
		{"another name", "PUT", maps + "/c", "application/json", object, 400, "the name of the object (b)"},
		{"wrong type of a field", "POST", maps, "application/json", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"data":{"x":1}}`, 400, "cannot unmarshal number"},
		{"patch of no type", "PATCH", maps + "/kube-root-ca.crt", "application/json", `{}`, 415, `"status":"Failure"`},
		{"wrong patch", "PATCH", maps + "/kube-root-ca.crt", "application/merge-patch+json", `[`, 400, `"status":"Failure"`},
		{"wrong selector", "GET", maps + "?labelSelector=a%3D%3D%3D", "", "", 400, "unable to parse requirement"},
		{"wrong limit", "GET", maps + "?limit=many", "", "", 400, `"status":"Failure"`},
		{"wrong continue", "GET", maps + "?limit=1&continue=zzz", "", "", 400, "continue key is not valid"},
		{"version of the future", "GET", maps + "?resourceVersion=99999999999", "", "", 504, "Too large resource version"},
		{"old version", "GET", maps + "?watch=1&resourceVersion=x", "", "", 400, `"status":"Failure"`},
		{"a field twice", "POST", maps + "?fieldValidation=Strict", "application/json", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"data":{},"data":{}}`, 400, `duplicate field \"data\"`},
		{"no such path", "GET", "/apis/nosuch/v1/things", "", "", 404, "404 page not found"},
		{"no such verb", "DELETE", "/api/v1/namespaces", "", "", 405, `"reason":"MethodNotAllowed"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.send(t, c.method, c.path, c.contentType, strings.NewReader(c.body))
			if got.code != c.code || !strings.Contains(strings.ReplaceAll(got.text, `": "`, `":"`), c.wanted) {
				t.Errorf("wanted %d with %s, got %d\n%.400s", c.code, c.wanted, got.code, got.text)
			}
		})
	}
}

func wrongTokens(t *testing.T, s *site) {
	token := strings.TrimSpace(s.kubectl("create", "token", "default"))
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a token: %s", token)
	}
	for name, given := range map[string]string{
		"nonsense": "nonsense", "no signature": parts[0] + "." + parts[1] + ".", "of another": parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
	} {
		if got := s.send(t, "GET", "/api/v1/namespaces", "", nil, "Authorization", "Bearer "+given); got.code != 401 || !strings.Contains(got.text, `"reason":"Unauthorized"`) {
			t.Errorf("%s: %d %s", name, got.code, got.text)
		}
	}
	if got := s.send(t, "GET", "/api/v1/namespaces", "", nil, "Authorization", "Bearer "+token); got.code != 403 {
		t.Errorf("a token without rights: %d %s", got.code, got.text)
	}
	if got := s.send(t, "GET", "/api/v1/namespaces", "", nil, "Accept", "application/json"); got.code != 403 || !strings.Contains(got.text, "system:anonymous") {
		t.Errorf("nobody: %d %s", got.code, got.text)
	}
	if got := s.send(t, "GET", "/api/v1/namespaces", "", nil, "Authorization", "Bearer "+s.expired(t, parts)); got.code != 401 || !strings.Contains(got.text, `"reason":"Unauthorized"`) {
		t.Errorf("a token that expired: %d %s", got.code, got.text)
	}
	s.with(t, "proa kubectl").refuses(words("create token default --duration=1s"), "may not specify a duration less than 10 minutes")
	s.kubectl("create", "serviceaccount", "leaves")
	gone := strings.TrimSpace(s.kubectl("create", "token", "leaves"))
	s.kubectl("delete", "serviceaccount", "leaves")
	eventually(t, 15*time.Second, "refusal of the token of a deleted account", func() bool {
		return s.send(t, "GET", "/api/v1/namespaces", "", nil, "Authorization", "Bearer "+gone).code == 401
	})
}

// expired is a token with the claims of another, signed by the cluster's own key, whose time
// was over a minute ago.
func (s *site) expired(t *testing.T, parts []string) string {
	t.Helper()
	var header struct{ Kid string }
	claims := map[string]any{}
	for i, into := range []any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	pem, err := os.ReadFile(filepath.Join(s.dir, "data", s.name, "pki", "sa.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyutil.ParsePrivateKeyPEM(pem)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: header.Kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token := func(until time.Time) string {
		from := time.Now().Add(-time.Hour)
		claims["iat"], claims["nbf"], claims["exp"] = from.Unix(), from.Unix(), until.Unix()
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := s.send(t, "GET", "/api/v1/namespaces", "", nil, "Authorization", "Bearer "+token(time.Now().Add(time.Hour))); got.code != 403 {
		t.Fatalf("what the test signs is not taken: %d %s", got.code, got.text)
	}
	return token(time.Now().Add(-time.Minute))
}
