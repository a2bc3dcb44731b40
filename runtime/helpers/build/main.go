// Command build compiles the helper programs and puts them, compressed, where package
// helpers embeds them. Run from the module's root: go run ./runtime/helpers/build [-o folder].
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/proa-dev/proa/runtime/helpers"
)

// programs lists what is built. An optional one that is not in the tree is left out.
var programs = []struct {
	name, pkg string
	optional  bool
}{
	{name: helpers.Shim, pkg: "./cmd/shim"},
	{name: helpers.CNI, pkg: "./cmd/proa-cni", optional: true},
	{name: helpers.Pause, pkg: "./cmd/pause"},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "build helpers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	out := flag.String("o", "runtime/helpers/bin", "folder to write to")
	arch := flag.String("arch", runtime.GOARCH, "processor to build for")
	flag.Parse()
	var sums bytes.Buffer
	for _, p := range programs {
		if _, err := os.Stat(p.pkg); p.optional && errors.Is(err, os.ErrNotExist) {
			continue
		}
		data, err := compile(ctx, p.pkg, *arch)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		packed, err := pack(data)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := os.WriteFile(filepath.Join(*out, p.name+".zst"), packed, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x %d %s\n", sha256.Sum256(data), len(data), p.name)
		fmt.Printf("%-26s %8d bytes, %8d packed\n", p.name, len(data), len(packed))
	}
	return os.WriteFile(filepath.Join(*out, helpers.Sums), sums.Bytes(), 0o644)
}

// compile builds one static program without its symbols and returns its bytes.
func compile(ctx context.Context, pkg, arch string) (data []byte, err error) {
	dir, err := os.MkdirTemp("", "proa-helper-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "out")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go build %s: %w", pkg, err)
	}
	return os.ReadFile(path)
}

func pack(data []byte) ([]byte, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return z.EncodeAll(data, nil), nil
}
