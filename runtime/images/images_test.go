package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func spec() Spec {
	return Spec{Ref: "x/y:1", Files: []File{{Path: "/a/b/c", Data: []byte("hi")}, {Path: "link", Link: "a/b/c"}}, Cmd: []string{"/a"}, ExposedPorts: []string{"1/tcp", "2/tcp"}, Labels: map[string]string{"a": "b", "c": "d"}}
}

func TestBuildIsDeterministic(t *testing.T) {
	var first bytes.Buffer
	if err := Build(&first, spec()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		var again bytes.Buffer
		if err := Build(&again, spec()); err != nil || !bytes.Equal(first.Bytes(), again.Bytes()) {
			t.Fatal("differs", err)
		}
	}
}

func TestLayerHasParentsInOrder(t *testing.T) {
	layer, err := layerTar(spec().Files)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for in := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if got, want := len(names), 4; got != want || names[0] != "a/" || names[1] != "a/b/" || names[2] != "a/b/c" || names[3] != "link" {
		t.Errorf("%q", names)
	}
	if _, err := layerTar([]File{{Path: "a"}, {Path: "/a"}}); err == nil {
		t.Error("a path given twice was accepted")
	}
}

func TestDecompress(t *testing.T) {
	var plain, gz, zs bytes.Buffer
	if err := Build(&plain, spec()); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&gz)
	if _, err := z.Write(plain.Bytes()); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write(plain.Bytes()); err != nil || e.Close() != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain": plain.Bytes(), "gzip": gz.Bytes(), "zstd": zs.Bytes()} {
		r, err := decompress(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, plain.Bytes()) || r.Close() != nil {
			t.Errorf("%s: differs, %v", name, err)
		}
	}
	for _, bad := range []string{"", "x", "\x1f\x8b", "\x28\xb5\x2f\xfd", string(make([]byte, 4096))} {
		if _, err := decompress(bytes.NewReader([]byte(bad))); !errors.Is(err, ErrNotArchive) {
			t.Errorf("%.10q: %v", bad, err)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20)); err != nil {
			t.Log(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
