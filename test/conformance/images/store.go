package images

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image: a reference, its layers from below, and how its program is started.
type Image struct {
	Ref    string // "registry.k8s.io/pause:3.10.2"
	Layers []Root
	Config ocispec.ImageConfig
}

// Store is a folder of images, laid out as OCI says: blobs by their digest.
type Store struct {
	dir    string
	images map[string]ocispec.Descriptor // by reference
	order  []string
}

// NewStore opens the folder, which is made when it is missing. Blobs of earlier images
// stay until Prune.
func NewStore(dir string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, err
	}
	return &Store{dir: dir, images: map[string]ocispec.Descriptor{}}, nil
}

// Add makes the image.
func (s *Store) Add(i Image) error {
	config := ocispec.Image{
		Created:  new(time.Unix(0, 0).UTC()),
		Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   i.Config,
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, root := range i.Layers {
		layer, err := s.blob(ocispec.MediaTypeImageLayer, root.write)
		if err != nil {
			return fmt.Errorf("image %s: %w", i.Ref, err)
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.Digest)
		manifest.Layers = append(manifest.Layers, layer)
	}
	var err error
	if manifest.Config, err = s.blob(ocispec.MediaTypeImageConfig, asJSON(config)); err != nil {
		return fmt.Errorf("image %s: %w", i.Ref, err)
	}
	desc, err := s.blob(ocispec.MediaTypeImageManifest, asJSON(manifest))
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Ref, err)
	}
	desc.Annotations = map[string]string{"io.containerd.image.name": i.Ref, ocispec.AnnotationRefName: i.Ref}
	if _, again := s.images[i.Ref]; !again {
		s.order = append(s.order, i.Ref)
	}
	s.images[i.Ref] = desc
	return nil
}

func asJSON(v any) func(io.Writer) error {
	return func(w io.Writer) error { return json.NewEncoder(w).Encode(v) }
}

// blob keeps what write makes under its digest.
func (s *Store) blob(mediaType string, write func(io.Writer) error) (ocispec.Descriptor, error) {
	f, err := os.CreateTemp(s.dir, ".blob-")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	hash := sha256.New()
	err = errors.Join(write(io.MultiWriter(f, hash)), f.Chmod(0o644))
	size, seekErr := f.Seek(0, io.SeekCurrent)
	sum := hex.EncodeToString(hash.Sum(nil))
	if err = errors.Join(err, seekErr, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path(sum))
	}
	if err != nil {
		return ocispec.Descriptor{}, errors.Join(err, os.Remove(f.Name()))
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.NewDigestFromEncoded(digest.SHA256, sum), Size: size}, nil
}

func (s *Store) path(sum string) string { return filepath.Join(s.dir, "blobs", "sha256", sum) }

// Refs lists the images in the order in which they were added.
func (s *Store) Refs() []string { return s.order }

// Archive writes all images into one archive, which "ctr images import" and the like read,
// and leaves blobs that no image needs any more behind. skip names images to leave out.
func (s *Store) Archive(file string, skip ...string) (err error) {
	left := map[string]bool{}
	for _, ref := range skip {
		left[ref] = true
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var sums []string
	seen := map[string]bool{}
	for _, ref := range s.order {
		if left[ref] {
			continue
		}
		index.Manifests = append(index.Manifests, s.images[ref])
		all, err := s.blobsOf(ref)
		if err != nil {
			return err
		}
		for _, sum := range all {
			if !seen[sum] {
				seen[sum], sums = true, append(sums, sum)
			}
		}
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	layout := Root{}
	layout.File("oci-layout", 0o644, `{"imageLayoutVersion":"1.0.0"}`)
	var list bytes.Buffer
	if err := asJSON(index)(&list); err != nil {
		return err
	}
	layout.File("index.json", 0o644, list.String())
	for _, sum := range sums {
		layout.Copy("blobs/sha256/"+sum, 0o644, s.path(sum))
	}
	return layout.write(f)
}

// blobsOf names the blobs of an image, its manifest first.
func (s *Store) blobsOf(ref string) ([]string, error) {
	sum := s.images[ref].Digest.Encoded()
	raw, err := os.ReadFile(s.path(sum))
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("read manifest of %s: %w", ref, err)
	}
	all := []string{sum, m.Config.Digest.Encoded()}
	for _, l := range m.Layers {
		all = append(all, l.Digest.Encoded())
	}
	return all, nil
}

// Prune removes blobs that belong to no image of this store.
func (s *Store) Prune() error {
	used := map[string]bool{}
	for _, ref := range s.order {
		all, err := s.blobsOf(ref)
		if err != nil {
			return err
		}
		for _, sum := range all {
			used[sum] = true
		}
	}
	return fs.WalkDir(os.DirFS(s.dir), "blobs", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || used[d.Name()] {
			return err
		}
		return os.Remove(filepath.Join(s.dir, name))
	})
}
