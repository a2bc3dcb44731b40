package plan

import corev1 "k8s.io/api/core/v1"

// initContainers walks the init containers in order. ready: the pod's own containers may
// run; failed: one has failed for good.
//
// A sidecar counts as done once it has started (its startup probe and post-start hook
// passed); it is restarted for as long as the pod lives. An ordinary one counts as done
// when it has exited 0, or when anything after it has begun, for the runtime may have
// forgotten it.
func (d *decision) initContainers() (ready, failed bool) {
	inits := d.Pod.Spec.InitContainers
	first := d.firstUndone()
	for i := 0; i < first && i < len(inits); i++ {
		if Sidecar(&inits[i]) {
			d.keep(&inits[i], true)
		}
	}
	for i := first; i < len(inits); i++ {
		c := &inits[i]
		if Sidecar(c) {
			d.keep(c, true)
			if !d.up(c) {
				return false, false
			}
			continue
		}
		switch seen := d.Observed.Newest(c.Name); {
		case seen != nil && seen.State == Exited && !d.inSandboxNow(c.Name):
			d.start(c, true) // of a sandbox that is gone: what it prepared is gone too
			return false, false
		case seen != nil && seen.State == Exited && seen.ExitCode == 0:
			continue
		case seen != nil && seen.State == Exited && !d.restarts(c, seen):
			return false, true
		case seen != nil && seen.State == Running:
			return false, false
		default:
			d.keep(c, true)
			return false, false
		}
	}
	return true, false
}

// firstUndone is the index of the first init container that is not known to have passed
// because something after it has begun.
func (d *decision) firstUndone() int {
	for i := range d.Pod.Spec.Containers {
		if d.inSandboxNow(d.Pod.Spec.Containers[i].Name) {
			return len(d.Pod.Spec.InitContainers)
		}
	}
	for i := len(d.Pod.Spec.InitContainers) - 1; i >= 0; i-- {
		if d.inSandboxNow(d.Pod.Spec.InitContainers[i].Name) {
			return i
		}
	}
	return 0
}

// inSandboxNow tells whether the container has begun in the newest sandbox.
func (d *decision) inSandboxNow(name string) bool {
	seen := d.Observed.Newest(name)
	return seen != nil && seen.State != Created && seen.SandboxID == d.Observed.Sandbox().ID
}

// up tells whether a sidecar runs and has started.
func (d *decision) up(c *corev1.Container) bool {
	seen := d.Observed.Newest(c.Name)
	return seen != nil && seen.State == Running && (d.Started == nil || d.Started(seen.ID))
}
