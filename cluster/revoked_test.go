package cluster

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// tunnel switches protocols and then sends back what comes.
func tunnel(w http.ResponseWriter) {
	conn, both, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	_, _ = io.Copy(conn, both)
}

// person makes a user with a certificate who may read nodes and pods, and exec.
func (c *house) person(t *testing.T, name string) *rest.Config {
	t.Helper()
	raw, err := CreateUser(t.Context(), c.cfg.Place, name, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.bind(t, name, "reads-"+name, "User")
	cfg, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// watches opens a watch of nodes.
func watches(t *testing.T, cfg *rest.Config) watch.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// ended drains a watch until it ends; false when it does not in time.
func ended(w watch.Interface, within time.Duration) bool {
	late := time.After(within)
	for {
		select {
		case _, ok := <-w.ResultChan():
			if !ok {
				return true
			}
		case <-late:
			return false
		}
	}
}

// execs opens a tunnel into a pod and sends something through it.
func (c *house) execs(t *testing.T, cfg *rest.Config) io.ReadCloser {
	t.Helper()
	settings, err := rest.TLSConfigFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(cfg.Host)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&tls.Dialer{Config: settings}).DialContext(t.Context(), "tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "POST /api/v1/namespaces/default/pods/shell/exec?command=sh&stdin=true HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", at.Host)
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("exec: %v %+v", err, answer)
	}
	fmt.Fprintln(conn, "hello")
	if line, err := in.ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("through the tunnel came %q, %v", line, err)
	}
	return io.NopCloser(in)
}

// Revoking ends within a second what a user has open: watches, tunnels, kept connections;
// and nothing of anybody else.
func TestRevokedUserIsOut(t *testing.T) {
	c := newHouse(t, nil)
	newAgent(t.Context(), t, c)
	c.shell(t)
	ann, bob := c.person(t, "ann"), c.person(t, "bob")
	open, others, tunnelled := watches(t, ann), watches(t, bob), c.execs(t, ann)
	kept, err := kubernetes.NewForConfig(ann)
	if err != nil {
		t.Fatal(err)
	}
	if err := getNode(kept)(t.Context()); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := RevokeUser(t.Context(), c.cfg.Place, "ann"); err != nil {
		t.Fatal(err)
	}
	if !ended(open, time.Second) {
		t.Error("her watch goes on")
	}
	closed := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, tunnelled); close(closed) }()
	select {
	case <-closed:
	case <-time.After(time.Second):
		t.Error("her tunnel goes on")
	}
	t.Logf("all ended after %v", time.Since(begun))
	if err := getNode(kept)(t.Context()); !apierrors.IsUnauthorized(err) {
		t.Errorf("her next request: %v", err)
	}
	if ended(others, 200*time.Millisecond) {
		t.Error("another user's watch has ended")
	}
	again, err := CreateUser(t.Context(), c.cfg.Place, "ann", nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(again)
	if err != nil {
		t.Fatal(err)
	}
	watches(t, cfg)
}

// A node that is deleted is out at once, and comes back with a token only.
func TestDeletedNodeIsOut(t *testing.T) {
	c := newHouse(t, nil)
	agent := newAgent(t.Context(), t, c)
	w := watchesAsNode(t, agent.config(c.address()))
	if err := c.client.CoreV1().Nodes().Delete(t.Context(), "agent", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if !ended(w, time.Second) {
		t.Error("its watch goes on")
	}
	client, err := kubernetes.NewForConfig(agent.config(c.address()))
	if err != nil {
		t.Fatal(err)
	}
	if err := getNode(client)(t.Context()); !apierrors.IsUnauthorized(err) {
		t.Errorf("its next request: %v", err)
	}
	cfg := agent.joined
	if cfg.Token, err = CreateToken(t.Context(), c.cfg.Place, time.Hour, false); err != nil {
		t.Fatal(err)
	}
	back, err := join(t.Context(), cfg, c.log)
	if err != nil {
		t.Fatal(err)
	}
	if client, err = kubernetes.NewForConfig(back.config(c.address())); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "agent"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("it came back: %v", err)
	}
	if client, err = kubernetes.NewForConfig(agent.config(c.address())); err != nil {
		t.Fatal(err)
	}
	if err := getNode(client)(t.Context()); !apierrors.IsUnauthorized(err) {
		t.Errorf("with its former certificate: %v", err)
	}
}

func watchesAsNode(t *testing.T, cfg *rest.Config) watch.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=agent"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// shell is a pod on the agent's node.
func (c *house) shell(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	eventually(t, 10*time.Second, "the namespace has its service account", func() bool {
		_, err := c.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	_, err := c.client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "shell"},
		Spec:       corev1.PodSpec{NodeName: "agent", Containers: []corev1.Container{{Name: "sh", Image: "sh"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
