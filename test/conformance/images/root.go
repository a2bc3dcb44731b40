// Package images makes the container images that the conformance suite runs, on a machine
// that can reach no registry: from Go modules, the distribution's packages and a busybox
// built from its source.
//
// The one idea: a root is a map from paths to what lies there. It is written as one
// reproducible layer, so that the same inputs are the same image, and images with the
// same root share it.
package images

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"time"
)

// Root is a file system to be; paths are relative and clean ("usr/bin/env").
type Root map[string]node

// node is a file, a symbolic link or a folder. Exactly one of data, from and link is set
// for the first two.
type node struct {
	mode     int64 // permissions with set-uid, set-gid and sticky bits, as tar counts them
	uid, gid int
	data     []byte
	from     string // a file on this machine
	link     string
	dir      bool
}

// The bits of tar's mode beyond permissions.
const (
	setuid = 0o4000
	sticky = 0o1000
)

// Dir makes a folder; those above it are made with 0755 when they are missing.
func (r Root) Dir(name string, mode int64) { r[name] = node{mode: mode, dir: true} }

// File makes a file of bytes.
func (r Root) File(name string, mode int64, data string) {
	r[name] = node{mode: mode, data: []byte(data)}
}

// Copy takes a file of this machine; a symbolic link is followed.
func (r Root) Copy(name string, mode int64, from string) { r[name] = node{mode: mode, from: from} }

// Link makes a symbolic link.
func (r Root) Link(name, target string) { r[name] = node{mode: 0o777, link: target} }

// With is a copy with more in it; what other has comes over what r has.
func (r Root) With(other Root) Root {
	sum := maps.Clone(r)
	maps.Copy(sum, other)
	return sum
}

// write makes a tar of the root, the same each time.
func (r Root) write(w io.Writer) error {
	all := maps.Clone(r)
	for name := range r {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, there := all[dir]; !there {
				all[dir] = node{mode: 0o755, dir: true}
			}
		}
	}
	t := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := all[name].write(t, name); err != nil {
			return fmt.Errorf("write layer: %s: %w", name, err)
		}
	}
	return t.Close()
}

func (n node) write(t *tar.Writer, name string) error {
	h := &tar.Header{Name: name, Mode: n.mode, Uid: n.uid, Gid: n.gid, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	switch {
	case n.dir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case n.link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.link
	case n.from != "":
		return n.copy(t, h)
	default:
		h.Size = int64(len(n.data))
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := t.Write(n.data)
	return err
}

func (n node) copy(t *tar.Writer, h *tar.Header) error {
	f, err := os.Open(n.from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size = info.Size()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
