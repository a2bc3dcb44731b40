package dns

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/proa-dev/proa/internal/informers"
)

func ptr[T any](v T) *T { return &v }

func testIndex() *index {
	x := newIndex()
	x.setNamespace("default", false)
	svc := func(name, ip string, ports ...corev1.ServicePort) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	}
	http := corev1.ServicePort{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}
	x.setService(svc("web", "10.96.0.20", http), false)
	x.setService(svc("db", "None", http), false)
	x.setService(svc("empty", "None"), false)
	ext := svc("ext", "")
	ext.Spec.Type, ext.Spec.ExternalName = corev1.ServiceTypeExternalName, "Example.org"
	x.setService(ext, false)
	alias := svc("alias", "")
	alias.Spec.Type, alias.Spec.ExternalName = corev1.ServiceTypeExternalName, "web.default.svc.cluster.local"
	x.setService(alias, false)
	x.setSlice(&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db-1", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
		Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.0.5"}, Hostname: ptr("db-0")},
			{Addresses: []string{"10.244.0.6"}},
			{Addresses: []string{"10.244.0.7"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(false)}},
		}}, false)
	return x
}

func testRecords() *records {
	return &records{index: testIndex(), zone: "cluster.local.", ttl: 30, own: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
}

func TestLookup(t *testing.T) {
	r := testRecords()
	const none, nx, out = "NODATA", "NXDOMAIN", "outside"
	for _, c := range []struct {
		name string
		kind uint16
		want string // data of the answers, sorted
	}{
		{"web.default.svc.cluster.local.", dns.TypeA, "10.96.0.20"},
		{"web.default.svc.cluster.local.", dns.TypeAAAA, none},
		{"web.default.svc.cluster.local.", dns.TypeMX, none},
		{"nope.default.svc.cluster.local.", dns.TypeA, nx},
		{"web.nope.svc.cluster.local.", dns.TypeA, nx},
		{"default.svc.cluster.local.", dns.TypeA, none},
		{"svc.cluster.local.", dns.TypeA, none},
		{"cluster.local.", dns.TypeA, none},
		{"bogus.cluster.local.", dns.TypeA, nx},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, "0 100 80 web.default.svc.cluster.local."},
		{"_http._udp.web.default.svc.cluster.local.", dns.TypeSRV, nx},
		{"_tcp.web.default.svc.cluster.local.", dns.TypeA, none},
		{"db.default.svc.cluster.local.", dns.TypeA, "10.244.0.5,10.244.0.6"},
		{"db-0.db.default.svc.cluster.local.", dns.TypeA, "10.244.0.5"},
		{"10-244-0-6.db.default.svc.cluster.local.", dns.TypeA, "10.244.0.6"},
		{"10-244-0-7.db.default.svc.cluster.local.", dns.TypeA, nx},
		{"empty.default.svc.cluster.local.", dns.TypeA, nx},
		{"_http._tcp.db.default.svc.cluster.local.", dns.TypeSRV, "0 50 8080 10-244-0-6.db.default.svc.cluster.local.,0 50 8080 db-0.db.default.svc.cluster.local."},
		{"ext.default.svc.cluster.local.", dns.TypeA, "example.org."},
		{"1-2-3-4.default.pod.cluster.local.", dns.TypeA, "1.2.3.4"},
		{"1-2-3-4.nope.pod.cluster.local.", dns.TypeA, nx},
		{"junk.default.pod.cluster.local.", dns.TypeA, nx},
		{"dns-version.cluster.local.", dns.TypeTXT, `"1.1.0"`},
		{"20.0.96.10.in-addr.arpa.", dns.TypePTR, "web.default.svc.cluster.local."},
		{"5.0.244.10.in-addr.arpa.", dns.TypePTR, "db-0.db.default.svc.cluster.local."},
		{"9.9.9.9.in-addr.arpa.", dns.TypePTR, out},
		{"example.org.", dns.TypeA, out},
		{"notcluster.local.", dns.TypeA, out},
	} {
		o := r.lookup(c.name, c.kind)
		var data []string
		for _, rr := range o.answer {
			data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
		slices.Sort(data)
		got := strings.Join(data, ",")
		switch {
		case o.outside:
			got = out
		case !o.exists:
			got = nx
		case got == "":
			got = none
		}
		if got != c.want {
			t.Errorf("%s %s: %s, want %s", c.name, dns.TypeToString[c.kind], got, c.want)
		}
	}
}

// startServer serves on a loopback address and gives it.
func startServer(t testing.TB, resolvConf string) string {
	t.Helper()
	shared := informers.New(fake.NewClientset(), nil)
	s, err := New(Config{Informers: shared, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.97")}, Port: 5397,
		ResolvConf: resolvConf, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.responder.records.index = testIndex()
	ctx, cancel := context.WithCancel(context.Background())
	shared.StartWithContext(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		shared.Shutdown()
	})
	select {
	case <-s.Ready():
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return "127.0.0.97:5397"
}

func ask(t *testing.T, protocol, server, name string, kind uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	r, _, err := (&dns.Client{Net: protocol, Timeout: 3 * time.Second}).Exchange(m, server)
	if err != nil {
		t.Fatalf("%s %s: %v", protocol, name, err)
	}
	return r
}

func TestServer(t *testing.T) {
	server := startServer(t, "")
	for _, protocol := range []string{"udp", "tcp"} {
		for range 2 { // the second from the kept answers
			r := ask(t, protocol, server, "WEB.default.svc.cluster.local.", dns.TypeA)
			if len(r.Answer) != 1 || r.Rcode != 0 || r.Question[0].Name != "WEB.default.svc.cluster.local." {
				t.Errorf("%s: %v", protocol, r)
			}
		}
		if r := ask(t, protocol, server, "alias.default.svc.cluster.local.", dns.TypeA); len(r.Answer) != 2 {
			t.Errorf("alias: %v", r)
		}
		if r := ask(t, protocol, server, "no.default.svc.cluster.local.", dns.TypeA); r.Rcode != dns.RcodeNameError || len(r.Ns) != 1 {
			t.Errorf("missing name: %v", r)
		}
		if r := ask(t, protocol, server, "example.org.", dns.TypeA); r.Rcode != dns.RcodeNameError {
			t.Errorf("no resolver, yet %v", r)
		}
	}
}

func TestForward(t *testing.T) {
	const upstream = "127.0.0.98:53"
	conn, err := net.ListenPacket("udp", upstream)
	if err != nil {
		t.Skip("needs port 53 of a loopback address")
	}
	var served atomic.Int32
	up := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		served.Add(1)
		r := new(dns.Msg)
		r.SetReply(m)
		r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: 1, Ttl: 60}, A: net.IPv4(192, 0, 2, 8)}}
		_ = w.WriteMsg(r)
	})}
	go func() { _ = up.ActivateAndServe() }()
	defer func() { _ = up.Shutdown() }()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("search x\nnameserver 127.0.0.97\nnameserver 127.0.0.98\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := startServer(t, conf)
	for range 3 {
		if r := ask(t, "udp", server, "example.org.", dns.TypeA); len(r.Answer) != 1 {
			t.Fatalf("forwarded: %v", r)
		}
	}
	if served.Load() != 1 {
		t.Errorf("upstream was asked %d times", served.Load())
	}
}

func FuzzRespond(f *testing.F) {
	for _, name := range []string{"web.default.svc.cluster.local.", "20.0.96.10.in-addr.arpa.", "example.org."} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeSRV)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	r := &responder{records: testRecords(), forward: &forwarder{log: slog.New(slog.NewTextHandler(io.Discard, nil))}}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, outside := r.respond(in, true)
		if outside {
			out = r.resolve(t.Context(), in, true)
		}
		if out == nil {
			return
		}
		var m dns.Msg
		if err := m.Unpack(out); err != nil {
			t.Fatalf("answer does not parse: %v", err)
		}
		if len(out) > udpSize || out[0] != in[0] || out[1] != in[1] || !m.Response {
			t.Fatalf("bad answer %v", m)
		}
	})
}

func BenchmarkRespond(b *testing.B) {
	r := &responder{records: testRecords()}
	m := new(dns.Msg)
	m.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	q, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r.respond(q, true)
	}
}

func BenchmarkUDP(b *testing.B) {
	server := startServer(b, "")
	m := new(dns.Msg)
	m.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	q, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8)
	b.RunParallel(func(p *testing.PB) {
		c, err := net.Dial("udp", server)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 512)
		for p.Next() {
			if _, err := c.Write(q); err != nil {
				b.Error(err)
				return
			}
			if _, err := c.Read(buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
