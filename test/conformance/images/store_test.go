package images

import (
	"archive/tar"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// small makes a store of one image with a set-uid program and a link.
func small(t *testing.T) *Store {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/true"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := Root{}
	r.Copy("usr/bin/program", 0o755|setuid, file)
	r.Link("program", "usr/bin/program")
	r.Dir("tmp", 0o777|sticky)
	s, err := NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(Image{Ref: "registry.example/group/small:1", Layers: []Root{r}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSameInputsSameImage(t *testing.T) {
	const ref = "registry.example/group/small:1"
	if a, b := small(t), small(t); a.images[ref].Digest != b.images[ref].Digest {
		t.Error("two images of the same files differ")
	}
}

func TestArchive(t *testing.T) {
	s := small(t)
	if err := s.Add(Image{Ref: "registry.example/other:1"}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "images.tar")
	if err := s.Archive(file, "registry.example/other:1"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blobs := 0
	for archive := tar.NewReader(f); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(h.Name) == "blobs/sha256" && h.Typeflag == tar.TypeReg {
			blobs++
		}
		if h.Name == "index.json" {
			var index ocispec.Index
			if err := json.NewDecoder(archive).Decode(&index); err != nil || len(index.Manifests) != 1 {
				t.Errorf("index %v, %v: want one image", index, err)
			}
		}
	}
	if blobs != 3 {
		t.Errorf("%d blobs, want manifest, config and layer", blobs)
	}
}

func TestRegistry(t *testing.T) {
	s := small(t)
	server := httptest.NewServer(s.Registry())
	defer server.Close()
	for path, want := range map[string]int{
		"/v2/":                          200,
		"/v2/group/small/manifests/1":   200,
		"/v2/group/small/manifests/2":   404,
		"/v2/other/small/manifests/1":   404,
		"/v2/group/small/blobs/sha256:": 404,
		"/v2/group/small/manifests/" + s.images["registry.example/group/small:1"].Digest.String():          200,
		"/v2/group/small/blobs/" + s.images["registry.example/group/small:1"].Digest.String():              200,
		"/v2/group/small/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000":    404,
		"/v2/group/small/blobs/sha256:../../../../../../../../../../../../../../../../../../../etc/passwd": 404,
	} {
		answer, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, answer.StatusCode, want)
		}
	}
}
