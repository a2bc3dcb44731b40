package wire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// Reply is what the case's backend answers at one path: an AdmissionReview or a
// ConversionReview that agrees, unless something else is given.
type Reply struct {
	Review  any   // merged into the review that agrees; null removes
	Patch   []any // of an AdmissionReview: a JSON patch
	Code    int   // 200 by default
	Headers map[string]string
	Body    any           // in place of a review, as JSON
	Text    *string       // in place of a review, as it is
	Echo    bool          // in place of a review: what was asked
	After   time.Duration // how long it takes
}

// Backend is an HTTPS server on loopback that the server under test calls: webhooks and
// aggregated API servers. It notes what it was asked.
type Backend struct {
	ca      []byte // PEM
	port    int
	server  *http.Server
	replies map[string]Reply
	ns      string // for {ns} in replies and their paths

	mu    sync.Mutex
	asked map[string][]any
}

// StartBackend answers as the replies say, by path, for a case with this namespace.
func StartBackend(replies map[string]Reply, ns string) (*Backend, error) {
	b := &Backend{replies: map[string]Reply{}, ns: ns, asked: map[string][]any{}}
	for path, reply := range replies {
		b.replies[strings.ReplaceAll(path, "{ns}", ns)] = reply
	}
	pair, err := b.certificate()
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*pair}, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		return nil, err
	}
	b.port = l.Addr().(*net.TCPAddr).Port
	b.server = &http.Server{Handler: b, ReadHeaderTimeout: patience}
	go b.server.Serve(l) //nolint:errcheck // that it was closed
	return b, nil
}

// certificate is for loopback, and its own authority.
func (b *Backend) certificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "backend"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	b.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// name gives the placeholders of the backend.
func (b *Backend) name(n *Names) {
	n.Keep("backend", fmt.Sprintf("https://127.0.0.1:%d", b.port))
	n.Keep("backendca", base64.StdEncoding.EncodeToString(b.ca))
	n.Keep("backendname", fmt.Sprintf("localhost:%d", b.port))
	n.values["backendport"] = fmt.Sprint(b.port) // not replaced in answers: digits are everywhere
}

// Asked takes what was asked at a path, since it was taken before.
func (b *Backend) Asked(path string) []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.asked[path]
	delete(b.asked, path)
	return list
}

func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, longest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	asked := map[string]any{"do": r.Method + " " + r.URL.RequestURI(), "headers": sentHeaders(r.Header)}
	var review any
	switch {
	case json.Unmarshal(raw, &review) == nil:
		asked["body"], err = fromJSON(raw)
	case len(raw) > 0:
		asked["body"] = string(raw)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	hideChance(asked["body"])
	b.mu.Lock()
	b.asked[r.URL.Path] = append(b.asked[r.URL.Path], asked)
	b.mu.Unlock()
	reply, ok := b.replies[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	select {
	case <-time.After(reply.After):
	case <-r.Context().Done():
		return
	}
	out, err := reply.bytes(review, asked)
	if err != nil {
		http.Error(w, "the case's reply: "+err.Error(), http.StatusTeapot)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	for name, v := range reply.Headers {
		w.Header().Set(name, v)
	}
	if reply.Code != 0 {
		w.WriteHeader(reply.Code)
	}
	_, _ = w.Write(bytes.ReplaceAll(out, []byte("{ns}"), []byte(b.ns))) // a client that went away
}

// sentHeaders are those that a backend may look at.
func sentHeaders(h http.Header) map[string]any {
	out := map[string]any{}
	for name, values := range h {
		switch name {
		case "Content-Length", "Accept-Encoding", "Connection":
		case "X-Remote-Uid", "X-Remote-Extra-Authentication.kubernetes.io%2fcredential-Id": // see hideChance
		case "User-Agent":
			if !strings.HasPrefix(values[0], "kube-apiserver") { // then it names a build
				out[name] = values[0]
			}
		default:
			out[name] = strings.Join(values, ", ")
		}
	}
	return out
}

// hideChance takes out of a review what says nothing: its own number, and by what the user was
// known (one server knows him by a token of a file, another by a certificate).
func hideChance(review any) {
	hide(review, "request.uid")
	user, _ := at(review, "request.userInfo")
	info, ok := user.(map[string]any)
	if !ok {
		return
	}
	if info["uid"] == info["username"] {
		delete(info, "uid")
	}
	if extra, ok := info["extra"].(map[string]any); ok {
		delete(extra, "authentication.kubernetes.io/credential-id")
		if len(extra) == 0 {
			delete(info, "extra")
		}
	}
}

// bytes of the answer to a review, or to anything else that was asked.
func (r *Reply) bytes(review, asked any) ([]byte, error) {
	switch {
	case r.Text != nil:
		return []byte(*r.Text), nil
	case r.Body != nil:
		return json.Marshal(r.Body)
	case r.Echo:
		return json.Marshal(asked)
	}
	in, ok := review.(map[string]any)
	request, _ := in["request"].(map[string]any)
	if !ok || request == nil {
		return nil, fmt.Errorf("not asked with a review but %v", review)
	}
	response := map[string]any{"uid": request["uid"]}
	if objects, ok := request["objects"].([]any); ok {
		response["convertedObjects"], response["result"] = converted(objects, request["desiredAPIVersion"]), map[string]any{"status": "Success"}
	} else {
		response["allowed"] = true
	}
	if r.Patch != nil {
		raw, err := json.Marshal(r.Patch)
		if err != nil {
			return nil, err
		}
		response["patchType"], response["patch"] = "JSONPatch", base64.StdEncoding.EncodeToString(raw)
	}
	out, err := json.Marshal(map[string]any{"apiVersion": in["apiVersion"], "kind": in["kind"], "response": response})
	if err != nil || r.Review == nil {
		return out, err
	}
	changes, err := json.Marshal(r.Review)
	if err != nil {
		return nil, err
	}
	return jsonpatch.MergePatch(out, changes)
}

// converted are objects of another version: in v2 the field hp, as host:port, is two fields.
func converted(objects []any, version any) []any {
	out := make([]any, len(objects))
	for i := range objects {
		o, _ := objects[i].(map[string]any)
		o = maps.Clone(o)
		o["apiVersion"] = version
		if spec, ok := o["spec"].(map[string]any); ok {
			spec = maps.Clone(spec)
			if hp, ok := spec["hp"].(string); ok {
				delete(spec, "hp")
				spec["host"], spec["port"], _ = strings.Cut(hp, ":")
			} else if host, ok := spec["host"]; ok {
				spec["hp"] = fmt.Sprint(host, ":", spec["port"])
				delete(spec, "host")
				delete(spec, "port")
			}
			o["spec"] = spec
		}
		out[i] = o
	}
	return out
}

// paths of a backend, for a message.
func (b *Backend) paths() []string { return slices.Sorted(maps.Keys(b.replies)) }
