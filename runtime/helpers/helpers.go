// Package helpers carries the small programs that run beside or inside pods and so must
// not be the big proa binary: the runtime's shim (one process per pod), the CNI client
// (one exec per pod) and pause (inside every pod).
//
// The one idea: they travel compressed together in the proa binary (they share the
// language's runtime) and are written once to a folder named by their content, so that an upgrade never changes a file that a running pod uses.
//
// Built by "go run ./runtime/helpers/build" (make build does it); used by runtime and cluster.
package helpers

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// Names of the helpers; each is a file of that name in the folder that Extract returns.
const (
	Shim  = "containerd-shim-runc-v2"
	CNI   = "proa-cni"
	Pause = "pause"
)

// The files in bin: Packed has the helpers one after the other in one zstd stream, Sums
// lists "<sha256> <size> <name>" of each in that order, of the uncompressed bytes.
const (
	Packed = "helpers.zst"
	Sums   = "SUMS"
)

// ErrNotBuilt says that this binary was linked without its helpers.
var ErrNotBuilt = errors.New(`the helper programs are not part of this binary: build it with "make build"`)

//go:embed all:bin
var embedded embed.FS

type entry struct {
	sum      string
	at, size int64 // in the unpacked stream
	name     string
}

// Extract writes the helpers below dir, into a folder named by their content, and returns
// that folder. Helpers already there with the right size are kept; others are written to a
// temporary name, checked against their sums and renamed, so that a crash leaves no half
// written program. ErrNotBuilt when there are none.
func Extract(dir string) (string, error) {
	bin, err := fs.Sub(embedded, "bin")
	if err != nil {
		return "", fmt.Errorf("open helpers: %w", err)
	}
	return extract(bin, dir)
}

// Bytes returns one helper, uncompressed; ErrNotBuilt when it is not there.
func Bytes(name string) ([]byte, error) {
	bin, err := fs.Sub(embedded, "bin")
	if err != nil {
		return nil, fmt.Errorf("open helpers: %w", err)
	}
	entries, _, err := sums(bin)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.name == name {
			var out bytes.Buffer
			err := unpack(bin, e, &out)
			return out.Bytes(), err
		}
	}
	return nil, fmt.Errorf("helper %s: %w", name, ErrNotBuilt)
}

func extract(bin fs.FS, dir string) (string, error) {
	entries, id, err := sums(bin)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(dir, id)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make helpers folder: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.name)
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == e.size && info.Mode().Perm() == 0o755 {
			continue
		}
		if err := install(bin, e, path); err != nil {
			return "", err
		}
	}
	return folder, nil
}

func install(bin fs.FS, e entry, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write helper %s: %w", e.name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write helper %s: %w", e.name, err), os.Remove(f.Name()))
		}
	}()
	err = unpack(bin, e, f)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// unpack writes the helper's bytes to w and fails when they are not those that were built.
func unpack(bin fs.FS, e entry, w io.Writer) error {
	f, err := bin.Open(Packed)
	if err != nil {
		return fmt.Errorf("open helpers: %w", err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return fmt.Errorf("unpack helper %s: %w", e.name, err)
	}
	defer z.Close()
	if _, err := io.CopyN(io.Discard, z, e.at); err != nil {
		return fmt.Errorf("unpack what comes before helper %s: %w", e.name, err)
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, hash), io.LimitReader(z, e.size))
	if err != nil {
		return fmt.Errorf("unpack helper %s: %w", e.name, err)
	}
	if n != e.size || hex.EncodeToString(hash.Sum(nil)) != e.sum {
		return fmt.Errorf("helper %s: its checksum differs from the one it was built with", e.name)
	}
	return nil
}

// sums reads the list of helpers and names the whole set.
func sums(bin fs.FS) ([]entry, string, error) {
	data, err := fs.ReadFile(bin, Sums)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", ErrNotBuilt
	}
	if err != nil {
		return nil, "", fmt.Errorf("read helper sums: %w", err)
	}
	var entries []entry
	var at int64
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		e := entry{at: at}
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %s", &e.sum, &e.size, &e.name); err != nil {
			return nil, "", fmt.Errorf("read helper sums, line %q: %w", lines.Text(), err)
		}
		if e.name != filepath.Base(e.name) || e.size < 0 {
			return nil, "", fmt.Errorf("helper sums: %q is not a file name", e.name)
		}
		at += e.size
		entries = append(entries, e)
	}
	id := sha256.Sum256(data)
	return entries, hex.EncodeToString(id[:8]), lines.Err()
}
