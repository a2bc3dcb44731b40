package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/access/internal/memory"
	"github.com/proa-dev/proa/apis/api"
)

var parityCases = flag.Int("parity", 50_000, "how many random decisions are compared with the plain model")

// allowed is RBAC said plainly: every binding, every subject, every rule.
func allowed(reader api.Reader, a *Attributes) bool {
	for _, o := range reader.List(clusterRoleBindings, "") {
		b := o.(*rbacv1.ClusterRoleBinding)
		if bindsUser(b.Subjects, "", a.User) && slices.ContainsFunc(rulesOf(reader, b.RoleRef, ""), func(r rbacv1.PolicyRule) bool { return plainly(r, a) }) {
			return true
		}
	}
	if !a.Resource || a.Namespace == "" {
		return false
	}
	for _, o := range reader.List(roleBindings, a.Namespace) {
		b := o.(*rbacv1.RoleBinding)
		if bindsUser(b.Subjects, b.Namespace, a.User) && slices.ContainsFunc(rulesOf(reader, b.RoleRef, b.Namespace), func(r rbacv1.PolicyRule) bool { return plainly(r, a) }) {
			return true
		}
	}
	return false
}

func rulesOf(reader api.Reader, ref rbacv1.RoleRef, namespace string) []rbacv1.PolicyRule {
	switch ref.Kind {
	case "Role":
		if o, ok := reader.Get(roles, namespace, ref.Name); ok && namespace != "" {
			return o.(*rbacv1.Role).Rules
		}
	case "ClusterRole":
		o, ok := reader.Get(clusterRoles, "", ref.Name)
		if !ok {
			return nil
		}
		role := o.(*rbacv1.ClusterRole)
		if role.AggregationRule == nil {
			return role.Rules
		}
		var rules []rbacv1.PolicyRule
		for label := range role.AggregationRule.ClusterRoleSelectors[0].MatchLabels {
			for _, o := range reader.List(clusterRoles, "") {
				if part := o.(*rbacv1.ClusterRole); part.Labels[label] == "true" && part.AggregationRule == nil {
					rules = append(rules, part.Rules...)
				}
			}
		}
		return rules
	}
	return nil
}

func bindsUser(subjects []rbacv1.Subject, namespace string, u *api.User) bool {
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		switch s.Kind {
		case "User":
			return s.Name == u.Name
		case "Group":
			return slices.Contains(u.Groups, s.Name)
		case "ServiceAccount":
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			return ns != "" && u.Name == "system:serviceaccount:"+ns+":"+s.Name
		}
		return false
	})
}

// plainly decides with strings alone, and no code of the package.
func plainly(r rbacv1.PolicyRule, a *Attributes) bool {
	in := func(list []string, options ...string) bool {
		return slices.ContainsFunc(options, func(o string) bool { return slices.Contains(list, o) })
	}
	if !in(r.Verbs, "*", a.Verb) {
		return false
	}
	if !a.Resource {
		for _, p := range r.NonResourceURLs {
			if p == "*" || p == a.Path || strings.HasSuffix(p, "*") && strings.HasPrefix(a.Path, p[:len(p)-1]) {
				return true
			}
		}
		return false
	}
	full := []string{"*", a.Plural}
	if a.Subresource != "" {
		full = []string{"*", a.Plural + "/" + a.Subresource, "*/" + a.Subresource}
	}
	return in(r.APIGroups, "*", a.Group) && in(r.Resources, full...) && (len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
}

// dice draws a random world and random questions to it.
type dice struct{ *rand.Rand }

func (d dice) pick(list ...string) string { return list[d.IntN(len(list))] }

func (d dice) some(list ...string) []string {
	out := []string{d.pick(list...)}
	for d.IntN(2) == 0 {
		out = append(out, d.pick(list...))
	}
	return out
}

func (d dice) rule() rbacv1.PolicyRule {
	verbs := d.some("get", "list", "create", "delete", "post", "*")
	if d.IntN(4) == 0 {
		return rbacv1.PolicyRule{Verbs: verbs, NonResourceURLs: d.some("/healthz", "/healthz/*", "/api", "/api*", "*", "/")}
	}
	r := rbacv1.PolicyRule{Verbs: verbs, APIGroups: d.some("", "apps", "example.com", "*"),
		Resources: d.some("pods", "pods/log", "pods/*", "*/scale", "*/log", "deployments", "deployments/scale", "*", "")}
	if d.IntN(3) == 0 {
		r.ResourceNames = d.some("x", "y", "")
	}
	return r
}

func (d dice) rules() []rbacv1.PolicyRule {
	out := make([]rbacv1.PolicyRule, d.IntN(6))
	for i := range out {
		out[i] = d.rule()
	}
	return out
}

func (d dice) subjects() []rbacv1.Subject {
	out := make([]rbacv1.Subject, d.IntN(5))
	for i := range out {
		switch d.IntN(4) {
		case 0:
			out[i] = user(d.pick("u1", "u2", "g1", "system:serviceaccount:a:sa"))
		case 1:
			out[i] = group(d.pick("g1", "g2", "u1"))
		case 2:
			out[i] = rbacv1.Subject{Kind: "ServiceAccount", Namespace: d.pick("a", "b", ""), Name: d.pick("sa", "u1")}
		default:
			out[i] = rbacv1.Subject{Kind: d.pick("user", "Robot"), Name: "u1"}
		}
	}
	return out
}

// change makes one random change to the world.
func (d dice) change(to *memory.Reader) {
	n, space := d.pick("1", "2", "3", "4", "5", "6"), d.pick("a", "b")
	switch d.IntN(9) {
	case 0:
		to.Put(clusterRoles, labelled(clusterRole(n, d.rules()...), d.some("red", "green")...))
	case 1:
		to.Put(clusterRoles, aggregating(n, d.pick("red", "green")))
	case 2:
		to.Put(roles, role(space, n, d.rules()...))
	case 3:
		to.Put(clusterRoleBindings, bindCluster(n, d.pick("1", "2", "3", "7"), d.subjects()...))
	case 4, 5:
		b := bindRole(space, n, d.pick("1", "2", "3", "7"), d.subjects()...)
		b.RoleRef.Kind = d.pick("Role", "ClusterRole")
		to.Put(roleBindings, b)
	case 6:
		to.Remove(roleBindings, space, n)
	case 7:
		to.Remove(clusterRoleBindings, "", n)
	case 8:
		to.Remove(clusterRoles, "", n)
	}
}

func (d dice) question() *Attributes {
	u := &api.User{Name: d.pick("u1", "u2", "u3", "g1", "system:serviceaccount:a:sa", "system:serviceaccount:b:sa", "system:serviceaccount:a:u1", ""), Groups: d.some("g1", "g3", "u1")}
	verb := d.pick("get", "list", "create", "delete", "patch")
	if d.IntN(4) == 0 {
		return &Attributes{User: u, Verb: d.pick("get", "post"), Path: d.pick("/healthz", "/healthz/", "/healthz/etcd", "/healthzx", "/api", "/apis", "/", "")}
	}
	plural, sub, _ := strings.Cut(d.pick("pods", "pods/log", "deployments", "deployments/scale", "jobs", "jobs/log"), "/")
	return &Attributes{User: u, Resource: true, Verb: verb, Group: d.pick("", "apps", "batch"), Plural: plural, Subresource: sub,
		Namespace: d.pick("a", "b", "c", ""), Name: d.pick("x", "y", "z", "")}
}

func TestDecisionsEqualAPlainModel(t *testing.T) {
	seed := rand.Uint64()
	d := dice{rand.New(rand.NewPCG(seed, 1))}
	reader := memory.New()
	rbac := NewRBAC(reader)
	rbac.Settled()
	yes := 0
	for i := range *parityCases {
		if i%20 == 0 {
			d.change(reader)
		}
		a := d.question()
		got, reason := rbac.Authorize(t.Context(), a)
		want := allowed(reader, a)
		if (got == Allow) != want || got == Deny {
			t.Fatalf("seed %d case %d: %+v of %+v: %v (%s), the model says %v", seed, i, a, a.User, got, reason, want)
		}
		if want {
			yes++
		}
	}
	if yes*30 < *parityCases || yes*30 > *parityCases*29 {
		t.Errorf("seed %d: %d of %d allowed: the questions find nothing out", seed, yes, *parityCases)
	}
}

// BenchmarkRequest is what access costs a request whose credentials were seen before: who
// asks, and whether he may.
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b)
	for i := range 1000 {
		w.Put(roleBindings, bindRole(fmt.Sprint("ns", i), "b", "r", rbacv1.Subject{Kind: "ServiceAccount", Namespace: "ns", Name: "sa"}, user("ann")))
		w.Put(roles, role(fmt.Sprint("ns", i), "r", on(read, "core", "pods services")))
	}
	z := NewAuthorizer(w.Reader, NewRBAC(w.Reader))
	ca, cert := clientCertificate(b, w.now, "ann", "devs")
	w.id.chain[0] = newCertificates(ca, func() time.Time { return w.now })
	byToken := httptest.NewRequest(http.MethodGet, "/api", nil)
	byToken.Header.Set("Authorization", "Bearer "+w.issue(b, api.TokenClaims{PodName: "pod", PodUID: "pod-uid", Expires: time.Hour}))
	byCert := httptest.NewRequest(http.MethodGet, "/api", nil)
	byCert.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	for name, r := range map[string]*http.Request{"token": byToken, "certificate": byCert} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			header := r.Header["Authorization"]
			for b.Loop() {
				if r.Header = (http.Header{}); header != nil {
					r.Header["Authorization"] = header
				}
				u, err := w.id.Authenticate(r)
				if err != nil {
					b.Fatal(err)
				}
				a := Attributes{User: u, Resource: true, Verb: "get", Plural: "services", Namespace: "ns7", Name: "x"}
				if d, reason := z.Authorize(b.Context(), &a); d != Allow {
					b.Fatal(reason)
				}
			}
		})
	}
}

// clientCertificate makes a user's certificate and the pool it belongs to.
func clientCertificate(t testing.TB, now time.Time, name string, groups ...string) (*x509.CertPool, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: groups},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	var made [2]*x509.Certificate
	for i, template := range []*x509.Certificate{authority, leaf} {
		der, err := x509.CreateCertificate(cryptorand.Reader, template, authority, &key.PublicKey, key)
		if err == nil {
			made[i], err = x509.ParseCertificate(der)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(made[0])
	return pool, made[1]
}

func TestRevokedUser(t *testing.T) {
	w := newWorld(t)
	ca, cert := clientCertificate(t, w.now, "ann", "devs")
	certs := newCertificates(ca, func() time.Time { return w.now })
	certs.list = &revoked{reader: w.Reader}
	w.id.chain[0] = certs
	r := httptest.NewRequest(http.MethodGet, "/api", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	record := func(u UserRecord) {
		value, err := u.Encode()
		if err != nil {
			t.Fatal(err)
		}
		w.Put(configMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: UserRecords},
			Data: map[string]string{UserRecordKey(u.User): value, "damaged": "{"}})
	}
	sum := sha256.Sum256(cert.Raw)
	mine := hex.EncodeToString(sum[:])
	for name, c := range map[string]struct {
		record UserRecord
		ok     bool
	}{
		"made":           {UserRecord{User: "ann"}, true},
		"revoked":        {UserRecord{User: "ann", Revoked: metav1.NewTime(w.now)}, false},
		"made since":     {UserRecord{User: "ann", Revoked: metav1.NewTime(w.now), Except: []string{mine}}, true},
		"another":        {UserRecord{User: "bob", Revoked: metav1.NewTime(w.now)}, true},
		"revoked before": {UserRecord{User: "ann", Revoked: metav1.NewTime(w.now.Add(-2 * time.Hour))}, true},
	} {
		record(c.record)
		for range 2 { // verified, and remembered
			u, err := w.id.Authenticate(r)
			if (err == nil) != c.ok || c.ok && u.Name != "ann" {
				t.Errorf("%s: %+v %v", name, u, err)
			}
		}
	}
}

func FuzzCertificate(f *testing.F) {
	w := newWorld(f)
	ca, cert := clientCertificate(f, w.now, "ann", "devs")
	certs := newCertificates(ca, func() time.Time { return w.now })
	f.Add(cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/api", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{parsed}}
		if u, err := certs.Authenticate(r); err == nil && u != nil && u.Name != "ann" {
			t.Errorf("became %+v", u)
		}
	})
}
