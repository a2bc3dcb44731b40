package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// PauseReference is the name of the image of every pod's sandbox, as upstream's.
const PauseReference = "registry.k8s.io/pause:3.10.2"

// PauseSpec is the pause image around the pause program.
func PauseSpec(program []byte) Spec {
	return Spec{
		Ref:        PauseReference,
		Files:      []File{{Path: "pause", Data: program, Mode: 0o755}},
		Entrypoint: []string{"/pause"},
		User:       "65535:65535",
		WorkingDir: "/",
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
}

// labelProgram keeps the digest of the pause program that an image was made from.
const labelProgram = "proa.dev/program"

// EnsurePause makes the pause image from program unless the node has that very one. The
// image is pinned: image garbage collection leaves it alone.
func (s *Store) EnsurePause(ctx context.Context, program []byte) error {
	want := digest.FromBytes(program).Encoded()
	have, err := s.client.ImageService().Get(namespaces.WithNamespace(ctx, namespace), PauseReference)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("look for pause image: %w", err)
	}
	if err == nil && have.Labels[labelProgram] == want {
		return s.visible(ctx, PauseReference)
	}
	if len(program) == 0 {
		return errors.New("make pause image: no program given")
	}
	var archive bytes.Buffer
	if err := Build(&archive, PauseSpec(program)); err != nil {
		return err
	}
	_, err = s.load(ctx, &archive, map[string]string{labelManaged: managed, labelPinned: pinned, labelProgram: want})
	return err
}
