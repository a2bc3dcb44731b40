package images

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// List is the node status' list: the largest images first, at most limit (-1: all).
func (m *Manager) List(ctx context.Context, limit int) ([]corev1.ContainerImage, error) {
	got, err := m.cfg.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	slices.SortFunc(got.Images, func(a, b *runtimeapi.Image) int { return compare(b.Size, a.Size) })
	if limit >= 0 && len(got.Images) > limit {
		got.Images = got.Images[:limit]
	}
	out := make([]corev1.ContainerImage, 0, len(got.Images))
	for _, i := range got.Images {
		names := append(slices.Clone(i.RepoDigests), i.RepoTags...)
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), 5)], SizeBytes: int64(i.Size)})
	}
	return out, nil
}

// Collect frees at least want bytes by removing images, the longest unused first. inUse has the ids
// of images of containers, also of ended ones. Pinned images, those in use and those first seen
// less than minAge ago stay. It returns the bytes freed, as the runtime counts them.
func (m *Manager) Collect(ctx context.Context, want uint64, inUse map[string]bool, minAge time.Duration) (uint64, error) {
	got, err := m.cfg.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return 0, fmt.Errorf("list images: %w", err)
	}
	now := m.cfg.Clock.Now()
	var freed uint64
	for _, i := range m.removable(got.Images, inUse, now, minAge) {
		if freed >= want {
			return freed, nil
		}
		if _, err := m.cfg.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: i.Id}}); err != nil {
			m.cfg.Log.Warn("remove image", "image", i.Id, "err", err)
			continue
		}
		freed += i.Size
	}
	if freed < want {
		return freed, fmt.Errorf("free %d bytes of images: only %d found eligible", want, freed)
	}
	return freed, nil
}

func (m *Manager) removable(all []*runtimeapi.Image, inUse map[string]bool, now time.Time, minAge time.Duration) []*runtimeapi.Image {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := make(map[string]time.Time, len(all))
	var out []*runtimeapi.Image
	for _, i := range all {
		last, known := m.used[i.Id]
		if !known || inUse[i.Id] {
			last = now
		}
		seen[i.Id] = last
		if !inUse[i.Id] && !i.Pinned && now.Sub(last) >= minAge {
			out = append(out, i)
		}
	}
	m.used = seen
	slices.SortStableFunc(out, func(a, b *runtimeapi.Image) int { return seen[a.Id].Compare(seen[b.Id]) })
	return out
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
