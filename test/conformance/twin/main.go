// Command twin runs Kubernetes' own API server, of the version that we serve, beside its
// etcd: what our answers are compared with.
//
//	make twin                                                    # the first time some five minutes, until Ctrl-C
//	go test ./test/wire -record "$PWD/_output/twin/kubeconfig"   # in another terminal
//
// It listens on loopback alone, has no controllers and no nodes, and forgets everything when it
// is started again. Its users are admin (system:masters) and alice (group dev, without rights); the
// token of each is its name.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// What is built, and where it listens.
const (
	apiserver = "k8s.io/kubernetes/cmd/kube-apiserver"
	etcd      = "go.etcd.io/etcd/server/v3"
	address   = "127.0.0.1:9743"
	clients   = "http://127.0.0.1:9779"
	peers     = "http://127.0.0.1:9780"
)

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: twin, cluster: {server: "https://` + address + `", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: admin}}]
contexts: [{name: twin, context: {cluster: twin, user: admin}}]
current-context: twin
`

const tokens = `admin,admin,admin,"system:masters"
alice,alice,alice,"dev"
`

func main() {
	dir := flag.String("dir", "", "folder for programs and data")
	module := flag.String("module", "", "folder of the module that Kubernetes is built from")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *module); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "twin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, module string) error {
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.RemoveAll(path("data")), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	for name, pkg := range map[string]string{"kube-apiserver": apiserver, "etcd": etcd} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path(name), pkg)
		build.Dir, build.Stdout, build.Stderr = module, os.Stdout, os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build %s: %w", name, err)
		}
	}
	if err := write(dir); err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	start := func(name string, args ...string) error {
		log, err := os.Create(path(name + ".log"))
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, path(name), args...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 20 * time.Second
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		running.Go(func() {
			ended <- fmt.Errorf("%s ended, its words are in %s: %w", name, log.Name(), errors.Join(cmd.Wait(), log.Close()))
		})
		return nil
	}
	if err := start("etcd", "--data-dir", path("data"), "--unsafe-no-fsync",
		"--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peers,
		"--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if err := start("kube-apiserver", "--etcd-servers", clients, "--bind-address", "127.0.0.1", "--secure-port", port,
		"--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none", "--cert-dir", path("certs"),
		"--token-auth-file", path("tokens.csv"), "--authorization-mode", "Node,RBAC", "--allow-privileged",
		"--service-cluster-ip-range", "10.96.0.0/16", "--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file", path("sa.key"), "--service-account-key-file", path("sa.key")); err != nil {
		return err
	}
	if err := ready(ctx, path("kubeconfig"), ended); err != nil {
		return err
	}
	fmt.Println("serves", path("kubeconfig"))
	return <-ended
}

// write makes the files that the servers are started with, and the kubeconfig.
func write(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	secret := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for name, text := range map[string]string{"sa.key": string(secret), "tokens.csv": tokens, "kubeconfig": kubeconfig} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// ready waits for the server, for a minute at most.
func ready(ctx context.Context, kubeconfig string, ended <-chan error) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	again := time.NewTicker(300 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(time.Minute); ; {
		answer, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil && strings.TrimSpace(string(answer)) == "ok" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not ready within a minute: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case <-again.C:
		}
	}
}
