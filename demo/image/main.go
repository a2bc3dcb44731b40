// Command image builds the demo's images into one archive:
//
//	go run ./demo/image -o demo.tar && proa image load demo.tar
//
// It holds proa.local/demo:v1 and :v2, the web server of demo/web beside busybox.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/proa-dev/proa/runtime/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "build demo image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	out := flag.String("o", "demo.tar", "archive to write")
	flag.Parse()
	var specs []images.Spec
	for _, version := range []string{"v1", "v2"} {
		spec, err := demo(ctx, version)
		if err != nil {
			return err
		}
		specs = append(specs, spec)
	}
	f, err := os.Create(*out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return images.BuildAll(f, specs)
}

func demo(ctx context.Context, version string) (images.Spec, error) {
	web, err := compile(ctx, version)
	if err != nil {
		return images.Spec{}, err
	}
	busybox, err := busybox()
	if err != nil {
		return images.Spec{}, err
	}
	files := []images.File{
		{Path: "web", Data: web, Mode: 0o755},
		{Path: "bin/busybox", Data: busybox, Mode: 0o755},
		{Path: "tmp", Dir: true, Mode: 0o1777},
		{Path: "etc/passwd", Data: []byte("root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n")},
		{Path: "etc/group", Data: []byte("root:x:0:\nweb:x:1000:\n")},
	}
	for _, name := range []string{"sh", "ls", "cat", "wget", "nslookup", "sleep", "echo", "date", "ps", "id", "ip", "ping", "nc", "env", "hostname", "grep", "head", "true", "false", "mount", "df", "free", "top", "vi", "touch", "rm", "mkdir", "tar"} {
		files = append(files, images.File{Path: "bin/" + name, Link: "busybox"})
	}
	return images.Spec{
		Ref: "proa.local/demo:" + version, Files: files, Entrypoint: []string{"/web"},
		Env: []string{"PATH=/bin:/"}, User: "1000:1000", ExposedPorts: []string{"8080/tcp"},
	}, nil
}

func compile(ctx context.Context, version string) (data []byte, err error) {
	dir, err := os.MkdirTemp("", "proa-demo-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "web")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -X main.version="+version, "-o", path, "./demo/web")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go build ./demo/web: %w", err)
	}
	return os.ReadFile(path)
}

func busybox() ([]byte, error) {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		data, err := os.ReadFile(path)
		if err == nil {
			return data, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, errors.New(`busybox is missing: run "apt-get install busybox-static"`)
}
