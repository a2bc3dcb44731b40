// Command build compiles the helper programs and puts them, compressed together (their
// common parts once), where package helpers embeds them. Run from the module's root: go run ./runtime/helpers/build [-o folder].
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
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/proa-dev/proa/runtime/helpers"
)

// programs lists what is built. Pause comes first: it is read at each start of a node.
var programs = []struct{ name, pkg string }{
	{helpers.Pause, "./cmd/pause"},
	{helpers.CNI, "./cmd/proa-cni"},
	{helpers.Shim, "./cmd/shim"},
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
	var all, sums bytes.Buffer
	for _, p := range programs {
		data, err := compile(ctx, p.pkg, *arch)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		all.Write(data)
		fmt.Fprintf(&sums, "%x %d %s\n", sha256.Sum256(data), len(data), p.name)
		fmt.Printf("%-26s %8d bytes\n", p.name, len(data))
	}
	packed, err := pack(all.Bytes())
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	fmt.Printf("%-26s %8d bytes\n", "packed", len(packed))
	if err := removeOthers(*out); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*out, helpers.Packed), packed, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*out, helpers.Sums), sums.Bytes(), 0o644)
}

// removeOthers deletes what former versions built: all there is would be embedded.
func removeOthers(dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "*.zst"))
	for _, path := range old {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// flags make small programs: without symbols, without inlining outside the standard
// library, and without gRPC's traces, whose pages would link html/template.
var flags = []string{
	"-trimpath", "-buildvcs=false", "-tags=grpcnotrace", "-gcflags=all=-l", "-gcflags=std=", "-ldflags=-s -w -buildid= -funcalign=16",
}

// compile builds one static program and returns its bytes.
func compile(ctx context.Context, pkg, arch string) (data []byte, err error) {
	dir, err := os.MkdirTemp("", "proa-helper-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "out")
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-o", path}, flags, []string{pkg})...)
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
