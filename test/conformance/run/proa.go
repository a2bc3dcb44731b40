package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/proa-dev/proa/test/conformance/images"
)

// proa is a cluster of two nodes on this machine, with folders of its own. This file is all
// the kit knows about it.
type proa struct {
	binary, config string
	roots          []string
	undo           []func() error
}

// goodbye bounds how long the cluster may take to go.
const goodbye = 2 * time.Minute

// startProa gives a running cluster, with the images of store on its nodes; without a store
// they pull. end is to be called also
// after an error: it leaves nothing behind, unless the cluster is to be kept.
func startProa(ctx context.Context, o options, store *images.Store) (kubeconfig string, end func() error, err error) {
	const name = "conformance"
	home := filepath.Join(o.out, "cluster")
	p := &proa{binary: o.binary, config: filepath.Join(home, "etc")}
	p.roots = []string{"--name=" + name, "--data-root=" + filepath.Join(home, "data"), "--config-root=" + p.config,
		"--run-root=/run/proa-kit"} // sockets lie there: their paths must be short
	end = func() error { return p.end(context.WithoutCancel(ctx), o.keep) }
	if _, err := os.Stat(filepath.Join(home, "data", name)); err == nil && !o.keep {
		if err := p.call(ctx, "uninstall"); err != nil { // of a run that was killed
			return "", end, err
		}
	}
	if err := p.raise("/proc/sys/fs/inotify/max_user_instances", 2048); err != nil {
		return "", end, err
	}
	if err := p.call(ctx, "up", "--nodes=2"); err != nil {
		return "", end, err
	}
	kubeconfig = filepath.Join(p.config, name+".kubeconfig")
	if store == nil {
		return kubeconfig, end, nil
	}
	if err := p.mirror(ctx, kubeconfig, store); err != nil {
		return "", end, err
	}
	say("loading images")
	_, err = output(ctx, "", p.binary, append([]string{"image", "load", archive(o)}, p.roots...)...)
	return kubeconfig, end, err
}

func (p *proa) call(ctx context.Context, args ...string) error {
	return execute(ctx, "", p.binary, append(args, p.roots...)...)
}

// mirror serves the images where all nodes reach it, for specs that must pull: at the
// address of the first node, which is this machine's.
func (p *proa) mirror(ctx context.Context, kubeconfig string, store *images.Store) error {
	address, err := output(ctx, "", p.binary, "kubectl", "--kubeconfig="+kubeconfig, "get", "endpointslices", "kubernetes",
		"-o", "jsonpath={.endpoints[0].addresses[0]}")
	if err != nil {
		return err
	}
	url, stop, err := serveAt(strings.TrimSpace(address), store.Registry())
	if err != nil {
		return fmt.Errorf("serve images: %w", err)
	}
	p.undo = append(p.undo, func() error { stop(); return nil })
	dir := filepath.Join(p.config, "certs.d", "registry.k8s.io")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const hosts = "server = \"https://registry.k8s.io\"\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n"
	return os.WriteFile(filepath.Join(dir, "hosts.toml"), fmt.Appendf(nil, hosts, url), 0o644)
}

// raise sets a kernel limit that is too low, until the end.
func (p *proa) raise(file string, atLeast int) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	had, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || had >= atLeast {
		return err
	}
	p.undo = append(p.undo, func() error { return os.WriteFile(file, raw, 0o644) })
	return os.WriteFile(file, fmt.Appendln(nil, atLeast), 0o644)
}

func (p *proa) end(ctx context.Context, keep bool) error {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	var errs []error
	if keep {
		say("the cluster is kept: export KUBECONFIG=%s; remove it with %s uninstall %s", filepath.Join(p.config, "conformance.kubeconfig"), p.binary, strings.Join(p.roots, " "))
	} else {
		if _, err := output(ctx, "", p.binary, append([]string{"uninstall"}, p.roots...)...); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, undo := range p.undo {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}
