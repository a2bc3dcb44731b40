// Package images puts container images into a node's containerd without a registry: from
// archives ("docker save" and OCI layouts) and from memory, and writes such archives.
//
// The one idea: an image archive is a stream; it is read once, and only layers that the
// node does not have are unpacked.
//
// Used by cmd/proa (image load, image list), cluster (the pause image) and tests.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// namespace is containerd's name for what belongs to Kubernetes.
const namespace = "k8s.io"

// snapshotter holds the unpacked layers; runtime configures the same.
const snapshotter = "overlayfs"

// Labels by which the CRI service knows its images.
const (
	labelManaged, managed = "io.cri-containerd.image", "managed"
	labelPinned, pinned   = "io.cri-containerd.pinned", "pinned"
)

// Errors of archives.
var (
	ErrNotArchive  = errors.New("not an image archive: expected the output of \"docker save\" or an OCI layout in a tar file (plain, gzip or zstd)")
	ErrNoImage     = errors.New("the archive holds no named image for this platform")
	ErrInterrupted = errors.New("the archive ends too early")
)

// Store is the image store of one node.
type Store struct {
	client *containerd.Client
	cri    runtimeapi.ImageServiceClient
}

// Image is one image of a node.
type Image struct {
	ID    string   // digest of its configuration, "sha256:..."
	Names []string // tags and digests
	Size  uint64   // bytes, as CRI counts them
}

// New uses the containerd at the other end of conn, as runtime.Conn gives it.
func New(conn *grpc.ClientConn) (*Store, error) {
	client, err := containerd.NewWithConn(conn, containerd.WithDefaultNamespace(namespace), containerd.WithDefaultPlatform(platforms.Default()))
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return &Store{client: client, cri: runtimeapi.NewImageServiceClient(conn)}, nil
}

// Import reads one archive, compressed or not, and returns the names of the images in it,
// sorted; each is unpacked and visible to the kubelet when Import returns. Archives are
// imported one at a time by a caller; several callers may import different ones.
// Errors: ErrNotArchive, ErrNoImage, ErrInterrupted, or the runtime's.
func (s *Store) Import(ctx context.Context, r io.Reader) ([]string, error) {
	return s.load(ctx, r, map[string]string{labelManaged: managed})
}

func (s *Store) load(ctx context.Context, r io.Reader, labels map[string]string) (names []string, err error) {
	ctx = namespaces.WithNamespace(ctx, namespace)
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	plain, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	loaded, err := s.client.Import(ctx, plain,
		containerd.WithImageLabels(labels),
		containerd.WithDiscardUnpackedLayers(), // the snapshots hold them; half the disk
		containerd.WithImageRefTranslator(archive.AddRefPrefix("docker.io/library/import")),
		containerd.WithDigestRef(archive.DigestTranslator("docker.io/library/import")),
		containerd.WithSkipDigestRef(func(name string) bool { return name != "" }))
	if err != nil {
		return nil, readable(err)
	}
	if len(loaded) == 0 {
		return nil, ErrNoImage
	}
	for _, img := range loaded {
		if err := containerd.NewImage(s.client, img).Unpack(ctx, snapshotter); err != nil {
			return names, fmt.Errorf("unpack image %s: %w", img.Name, err)
		}
		if err := s.visible(ctx, img.Name); err != nil {
			return names, err
		}
		names = append(names, img.Name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// readable turns the importer's words for a bad file into ours.
func readable(err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, ErrNotArchive):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	case strings.Contains(text, "invalid tar header"), strings.Contains(text, "unrecognized image format"), strings.Contains(text, "magic number mismatch"):
		return fmt.Errorf("%w (%w)", ErrNotArchive, err)
	case strings.Contains(text, "no match for platform"):
		return fmt.Errorf("%w (this machine is %s): %w", ErrNoImage, platforms.DefaultString(), err)
	}
	return fmt.Errorf("import image: %w", err)
}

const (
	visibleWithin = 5 * time.Second
	visibleStep   = 2 * time.Millisecond
)

// visible waits until the CRI service, which learns of images by containerd's events, lists
// the image: pods would otherwise see it missing for a moment.
func (s *Store) visible(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, visibleWithin)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		status, err := s.cri.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
		if err != nil {
			return fmt.Errorf("look for imported image %s: %w", name, err)
		}
		if status.Image != nil {
			return nil
		}
		timer.Reset(visibleStep)
		select {
		case <-ctx.Done():
			return fmt.Errorf("imported image %s does not appear: %w", name, ctx.Err())
		case <-timer.C:
		}
	}
}

// List returns the node's images, sorted by their first name.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	answer, err := s.cri.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	list := make([]Image, 0, len(answer.Images))
	for _, i := range answer.Images {
		img := Image{ID: i.Id, Names: slices.Concat(i.RepoTags, i.RepoDigests), Size: i.Size}
		slices.Sort(img.Names)
		list = append(list, img)
	}
	slices.SortFunc(list, func(a, b Image) int { return slices.Compare(append(a.Names, a.ID), append(b.Names, b.ID)) })
	return list, nil
}
