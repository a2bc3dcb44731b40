// Package network tests the node's network with real packets: the agent, the service
// proxy and the cluster DNS in a network namespace of the test process's own.
package network

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/proa-dev/proa/internal/informers"
	"github.com/proa-dev/proa/network"
	"github.com/proa-dev/proa/network/cni"
)

const inside = "PROA_TEST_IN_NETNS"

// TestMain runs the tests in a network namespace that ends with the process.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var testLog = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))

// node is a node with an agent.
type node struct {
	t      testing.TB
	client *fake.Clientset
	shared *informers.Factory
	socket string
	count  int
}

func newNode(t testing.TB) *node { return newNodeWith(t, nil) }

// newNodeWith makes a node whose agent asks a guard.
func newNodeWith(t testing.TB, guard func(*node) network.Guard) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	n := &node{t: t, client: fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Spec:   corev1.NodeSpec{PodCIDR: "10.244.0.0/16"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "198.51.100.1"}}}})}
	n.shared = informers.New(n.client, nil)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	dir := t.TempDir()
	n.socket = filepath.Join(dir, "s")
	var asked network.Guard
	if guard != nil {
		asked = guard(n)
	}
	agent, err := network.New(network.Config{Guard: asked, Cluster: "t", NodeName: "n1", Informers: n.shared, Bridge: "proa-t", Table: "proa-t-net",
		Socket: n.socket, CNIConfDir: dir, CNIBinDir: dir, Root: dir, MTU: 1500, Log: testLog,
		ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16")})
	must(t, err)
	n.run(agent.Run)
	n.shared.StartWithContext(t.Context())
	wait(t, agent.Ready())
	t.Cleanup(func() {
		if l, err := netlink.LinkByName("proa-t"); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	return n
}

// run starts a component and gives what stops it; the test's end does too.
func (n *node) run(f func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("run: %v", err)
		}
	})
	n.t.Cleanup(stop)
	return stop
}

// pod is a network namespace attached by the agent.
type pod struct {
	ip netip.Addr
	ns netns.NsHandle
	id string
}

func (n *node) pod(ports string) *pod { return n.podOf("", ports) }

// podOf attaches a pod with the arguments that a runtime gives.
func (n *node) podOf(args, ports string) *pod {
	n.t.Helper()
	n.count++
	p := &pod{id: fmt.Sprintf("c%d-%d", n.count, time.Now().UnixNano())}
	path := filepath.Join(n.t.TempDir(), "ns")
	p.ns = newNetns(n.t, path)
	conf := `{"cniVersion":"1.1.0","name":"x","type":"proa-cni"` + ports + `}`
	out := n.cni("ADD", p.id, path, conf, args)
	_, rest, _ := strings.Cut(string(out), `"address":"`)
	addr, _, _ := strings.Cut(rest, "/")
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		n.t.Fatalf("ADD gave %s", out)
	}
	p.ip = ip
	n.t.Cleanup(func() { n.cni("DEL", p.id, path, conf) })
	return p
}

func (n *node) cni(command, id, path, conf string, args ...string) []byte {
	n.t.Helper()
	conn, err := net.Dial("unix", n.socket)
	must(n.t, err)
	defer conn.Close()
	must(n.t, cni.WriteRequest(conn, cni.Request{Stdin: []byte(conf),
		Env: []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_NETNS=" + path, "CNI_IFNAME=eth0", "CNI_ARGS=" + strings.Join(args, ";")}}))
	a, err := cni.ReadAnswer(conn)
	must(n.t, err)
	if a.Code != 0 {
		n.t.Fatalf("CNI %s: %s", command, a.Stdout)
	}
	return a.Stdout
}

// newNetns makes a network namespace bound at path.
func newNetns(t testing.TB, path string) netns.NsHandle {
	t.Helper()
	done := make(chan error, 1)
	var ns netns.NsHandle
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		var err error
		if ns, err = netns.New(); err == nil {
			if err = os.WriteFile(path, nil, 0o600); err == nil {
				err = syscall.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", syscall.Gettid()), path, "", syscall.MS_BIND, "")
			}
		}
		done <- err
	}()
	must(t, <-done)
	t.Cleanup(func() { _ = ns.Close(); _ = syscall.Unmount(path, syscall.MNT_DETACH) })
	return ns
}

// in runs f with sockets of the pod's namespace; nil is the node.
func (p *pod) in(t testing.TB, f func() error) error {
	t.Helper()
	if p == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(p.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// serve answers each TCP connection and UDP packet with "name client".
func (p *pod) serve(t testing.TB, name string, port int) {
	t.Helper()
	must(t, p.in(t, func() error {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close(); _ = u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					fmt.Fprintf(c, "%s %s\n", name, host)
					_, _ = io.Copy(c, c)
					_ = c.Close()
				}()
			}
		}()
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = u.WriteTo([]byte(name+" udp\n"), from)
			}
		}()
		return nil
	}))
}

// ask connects and gives the first line: "server client", or the error.
func (p *pod) ask(t testing.TB, protocol, to string) (string, error) {
	var line string
	err := p.in(t, func() error {
		c, err := net.DialTimeout(protocol, to, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if strings.HasPrefix(protocol, "udp") {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
		}
		b := make([]byte, 100)
		k, err := c.Read(b)
		line = strings.TrimSpace(string(b[:k]))
		return err
	})
	return line, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wait(t testing.TB, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal("not ready after 10 s")
	}
}

func expect(t testing.TB, from *pod, protocol, to, want string) {
	t.Helper()
	if got, err := from.ask(t, protocol, to); err != nil || got != want {
		t.Errorf("%s to %s: %q, %v; want %q", protocol, to, got, err, want)
	}
}

func TestPods(t *testing.T) {
	n := newNode(t)
	a := n.pod("")
	b := n.pod(`,"runtimeConfig":{"portMappings":[{"hostPort":8088,"containerPort":80,"protocol":"tcp"}]}`)
	b.serve(t, "b", 80)
	expect(t, a, "tcp", b.ip.String()+":80", "b "+a.ip.String())
	expect(t, nil, "tcp", b.ip.String()+":80", "b 10.244.0.1")
	expect(t, a, "tcp", "10.244.0.1:8088", "b "+a.ip.String())
	expect(t, b, "tcp", "10.244.0.1:8088", "b 10.244.0.1")
	expect(t, nil, "tcp", "10.244.0.1:8088", "b 10.244.0.1")
	if _, err := (*pod)(nil).ask(t, "tcp", "127.0.0.1:8088"); err == nil {
		t.Error("host port answers on loopback")
	}
}

func BenchmarkAdd(b *testing.B) {
	n := newNode(b)
	path := filepath.Join(b.TempDir(), "ns")
	newNetns(b, path)
	for b.Loop() {
		n.cni("ADD", "bench", path, `{"cniVersion":"1.1.0"}`)
		b.StopTimer()
		n.cni("DEL", "bench", path, `{"cniVersion":"1.1.0"}`)
		b.StartTimer()
	}
}

// wire links the node with a namespace.
func wire(p *pod, name, here, there, gateway string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(p.ns)
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(p.ns)
	if err != nil {
		return err
	}
	defer h.Close()
	far, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	a, _ := netlink.ParseAddr(here)
	b, _ := netlink.ParseAddr(there)
	for _, step := range []func() error{
		func() error { return h.AddrAdd(far, b) },
		func() error { return h.LinkSetUp(far) },
		func() error { return netlink.AddrAdd(veth, a) },
		func() error { return netlink.LinkSetUp(veth) },
		func() error {
			return h.RouteAdd(&netlink.Route{LinkIndex: far.Attrs().Index, Gw: net.ParseIP(gateway)})
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
