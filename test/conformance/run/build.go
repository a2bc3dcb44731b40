package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// version is the suite's; go.mod has the same.
const version = "v1.37.1"

// programs is what was built: files in one folder.
type programs struct {
	dir        string
	kubernetes string // the folder of the Kubernetes module's source
}

func (p *programs) path(name string) string { return filepath.Join(p.dir, name) }

// packages to build, by the name of the program.
var packages = map[string]string{
	"agnhost":          "k8s.io/kubernetes/test/images/agnhost",
	"etcd":             "go.etcd.io/etcd/server/v3",
	"ginkgo":           "github.com/onsi/ginkgo/v2/ginkgo",
	"kubectl":          "k8s.io/kubernetes/cmd/kubectl",
	"nonewprivs":       "k8s.io/kubernetes/test/images/nonewprivs",
	"pause":            "./pause",
	"sample-apiserver": "k8s.io/sample-apiserver",
}

// build makes the programs in dir unless they are there already for the same go.mod.
func build(ctx context.Context, module, dir string) (*programs, error) {
	p := &programs{dir: dir}
	source, err := output(ctx, module, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	if err != nil {
		return nil, err
	}
	p.kubernetes = strings.TrimSpace(source)
	key, err := buildKey(module)
	if err != nil {
		return nil, err
	}
	stamp := filepath.Join(dir, "built")
	if had, err := os.ReadFile(stamp); err == nil && string(had) == key {
		return p, nil
	}
	if err := errors.Join(os.RemoveAll(stamp), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	// Specs compare versions: the suite and its kubectl must say theirs.
	const v = "k8s.io/component-base/version."
	link := fmt.Sprintf("-s -w -X %sgitVersion=%s -X %sgitMajor=1 -X %sgitMinor=37", v, version, v, v)
	say("e2e.test: some ten minutes the first time")
	if err := execute(ctx, module, "go", "test", "-c", "-trimpath", "-ldflags", link, "-o", p.path("e2e.test"), "k8s.io/kubernetes/test/e2e"); err != nil {
		return nil, err
	}
	for name, pkg := range packages {
		if err := execute(ctx, module, "go", "build", "-trimpath", "-ldflags", link, "-o", p.path(name), pkg); err != nil {
			return nil, err
		}
	}
	return p, os.WriteFile(stamp, []byte(key), 0o644)
}

// buildKey stands for everything that is built.
func buildKey(module string) (string, error) {
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "pause/main.go", "run/build.go"} {
		raw, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		hash.Write(raw)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// execute runs a program whose words go to the terminal. Static programs are built: those
// in images have no libraries beside them.
func execute(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(name), strings.Join(args, " "), err)
	}
	return nil
}

// output runs a program and gives what it wrote.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var said bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, said.String())
	}
	return string(out), nil
}
