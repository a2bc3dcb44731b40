package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	storage "k8s.io/component-helpers/storage/volume"
)

// volumeTimeout is how long a pod waits for its volumes on the node chosen for it.
const volumeTimeout = 10 * time.Minute

var (
	errVolumeTimeout = errors.New("timed out waiting for volumes to be bound")
	errPodGone       = errors.New("pod does not exist any more")
)

// choose decides on the volumes for a pod's claims on the node it was given, in memory:
// the next decision sees them taken.
func (v *volumes) choose(s *state, p *placement, i int) {
	if p.volumes == nil || len(p.volumes.unbound) == 0 {
		return
	}
	choice, reason := v.choice(p.volumes, s.nodes[i])
	if reason != "" {
		return // cannot be: the node passed the filter a moment ago; binding would find out
	}
	for n := range choice.bindings {
		b := &choice.bindings[n]
		volume, dirty, err := storage.GetBindVolumeToClaim(b.volume, b.claim)
		if err != nil {
			continue // cannot be: claims are of a known kind
		}
		b.volume, b.dirty = volume, dirty
		v.chosen[volume.Name] = volume
	}
	for _, claim := range choice.provisions {
		v.provision[claim.Namespace+"/"+claim.Name] = s.nodes[i].Name
	}
	p.volumes.chosen = choice
}

// release forgets what was decided for a pod: it is written, or it came to nothing.
func (v *volumes) release(p *placement) {
	if p.volumes == nil || p.volumes.chosen == nil {
		return
	}
	for _, b := range p.volumes.chosen.bindings {
		delete(v.chosen, b.volume.Name)
	}
	for _, claim := range p.volumes.chosen.provisions {
		delete(v.provision, claim.Namespace+"/"+claim.Name)
	}
}

// bindVolumes writes what was decided for a pod's claims, waits until they are bound, and
// binds the pod.
func (s *Scheduler) bindVolumes(ctx context.Context, e *queued, p *placement, node string) {
	err := s.writeVolumes(ctx, p.volumes.chosen, node)
	if err == nil {
		err = s.awaitVolumes(ctx, p, node)
	}
	if err != nil {
		s.notBound(ctx, e, p, node, fmt.Errorf("binding volumes: %w", err))
		return
	}
	s.mu.Lock()
	s.state.volumes.release(p)
	s.mu.Unlock()
	s.bindPod(ctx, e, p, node)
}

func (s *Scheduler) writeVolumes(ctx context.Context, c *volumeChoice, node string) error {
	for _, b := range c.bindings {
		if !b.dirty {
			continue // bound ahead of time, by its owner
		}
		if _, err := s.client.CoreV1().PersistentVolumes().Update(ctx, b.volume, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("bind volume %s: %w", b.volume.Name, err)
		}
	}
	for _, claim := range c.provisions {
		if claim.Annotations[storage.AnnSelectedNode] == node {
			continue
		}
		claim = claim.DeepCopy()
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, storage.AnnSelectedNode, node)
		if _, err := s.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, claim, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("select node of claim %s: %w", claim.Name, err)
		}
	}
	return nil
}

// awaitVolumes waits until every claim that was decided on is bound.
func (s *Scheduler) awaitVolumes(ctx context.Context, p *placement, node string) error {
	changed := make(chan struct{}, 1)
	s.waiting.add(changed)
	defer s.waiting.remove(changed)
	timer := time.NewTimer(volumeTimeout)
	defer timer.Stop()
	seen := map[string]bool{} // claims that were seen with the node
	for {
		if done, err := s.volumesBound(p, node, seen); done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-timer.C:
			return errVolumeTimeout
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Scheduler) volumesBound(p *placement, node string, seen map[string]bool) (bool, error) {
	pod, err := s.pods.Pods(p.pod.Namespace).Get(p.pod.Name)
	if err != nil || pod.UID != p.pod.UID || pod.DeletionTimestamp != nil {
		return false, errPodGone
	}
	v, done := s.state.volumes, true
	labels := s.nodeLabels(node)
	for _, b := range p.volumes.chosen.bindings {
		claim, err := v.claims.PersistentVolumeClaims(b.claim.Namespace).Get(b.claim.Name)
		if err != nil {
			return false, err
		}
		if claim.Spec.VolumeName != "" && claim.Spec.VolumeName != b.volume.Name {
			return false, fmt.Errorf("claim %q was bound to another volume", claim.Name)
		}
		if volume, err := v.all.Get(b.volume.Name); err != nil {
			return false, err
		} else if volume.Spec.ClaimRef != nil && !storage.IsVolumeBoundToClaim(volume, claim) {
			return false, fmt.Errorf("volume %q was bound to another claim", volume.Name)
		}
		done = done && fullyBound(claim)
	}
	for _, made := range p.volumes.chosen.provisions {
		claim, err := v.claims.PersistentVolumeClaims(made.Namespace).Get(made.Name)
		if err != nil {
			return false, err
		}
		switch selected := claim.Annotations[storage.AnnSelectedNode]; {
		case selected == node:
			seen[claim.Name] = true
		case selected != "" || seen[claim.Name]: // taken away: the provisioner gave up on the node
			return false, fmt.Errorf("provisioning failed for PVC %q", claim.Name)
		}
		if !fullyBound(claim) {
			done = false
			continue
		}
		if volume, err := v.all.Get(claim.Spec.VolumeName); err != nil {
			done = false // its event is on the way
		} else if err := storage.CheckNodeAffinity(volume, labels); err != nil {
			return false, fmt.Errorf("pv %q node affinity doesn't match node %q: %w", volume.Name, node, err)
		}
	}
	return done, nil
}

func (s *Scheduler) nodeLabels(name string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.state.index[name]; ok {
		return s.state.nodes[i].Labels
	}
	return nil
}

// volumeHandler tells those that wait for volumes, and the pods that no node took for them.
func (s *Scheduler) volumeHandler() cache.ResourceEventHandler {
	changed := func() {
		s.waiting.tell()
		s.happened(volumeChanged, func(f failure) bool { return f.cares&caresVolumes != 0 })
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		UpdateFunc: func(_, _ any) { changed() },
		DeleteFunc: func(any) { changed() },
	}
}
