package kubelet

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/kubelet/cgroups"
	"github.com/proa-dev/proa/kubelet/plan"
	"github.com/proa-dev/proa/kubelet/podspec"
	"github.com/proa-dev/proa/kubelet/podstatus"
	"github.com/proa-dev/proa/kubelet/probe"
)

// worker is the life of one pod on this node. Its loop alone decides; what takes long runs
// as a job beside it and wakes it at its end.
type worker struct {
	k    *Kubelet
	uid  types.UID
	wake chan struct{}

	mu       sync.Mutex // guards what informers, jobs and readers of status share with the loop
	pod      *corev1.Pod
	gone     bool // the API server has no such pod any more
	orphan   bool // known from the runtime alone
	stale    bool // the runtime must be asked
	final    *podstatus.Final
	grace    *int64 // seconds, of a kill that the node itself decided
	observed *plan.Observed
	exits    map[string]exited // ended containers of which the runtime has not told yet
	backoffs map[string]plan.Backoff
	failures map[string]plan.Failure
	tries    map[string]int // failed starts in a row
	dead     map[string]string
	hooking  map[string]bool // containers whose post-start hook runs
	volumes  map[string]string
	images   map[string]string // of image volumes, by volume
	mounted  string            // resource of the pod's metadata that the volumes were made from
	messages map[string]string
	status   *corev1.PodStatus
	birth    birth
	admitted bool
	size     resizing
	applied  cgroups.Limits // of the pod's cgroup

	// of the loop alone
	done     bool // its containers have ended by themselves, for good
	bringing *job
	settled  bool            // nothing was being brought up since before the runtime was asked
	changing bool            // what is brought up replaces containers whose definition changed
	killing  map[string]*job // by container id
	ending   *ending
	told     map[string]time.Time // backoffs that were reported, by container
}

// job is work beside the loop.
type job struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func (j *job) running() bool {
	if j == nil {
		return false
	}
	select {
	case <-j.done:
		return false
	default:
		return true
	}
}

func newWorker(k *Kubelet, pod *corev1.Pod) *worker {
	return &worker{k: k, uid: pod.UID, pod: pod, birth: birth{seen: time.Now()}, wake: make(chan struct{}, 1), stale: true,
		backoffs: map[string]plan.Backoff{}, failures: map[string]plan.Failure{}, tries: map[string]int{}, dead: map[string]string{},
		hooking: map[string]bool{}, exits: map[string]exited{}, messages: map[string]string{}, killing: map[string]*job{}, told: map[string]time.Time{}}
}

// begin runs work beside the loop; the loop is woken, and looks, at its end.
func (w *worker) begin(ctx context.Context, work func(context.Context)) *job {
	ctx, cancel := context.WithCancel(ctx)
	j := &job{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer w.poke()
		defer close(j.done)
		defer w.outdate() // before: who sees that the job is done must not decide by what was seen meanwhile
		defer cancel()
		work(ctx)
	}()
	return j
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) look() {
	w.outdate()
	w.poke()
}

// outdate has the runtime asked before the next decision.
func (w *worker) outdate() {
	w.mu.Lock()
	w.stale = true
	w.mu.Unlock()
}

func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	w.pod, w.gone, w.orphan = pod, false, false
	w.mu.Unlock()
	w.poke()
}

func (w *worker) remove(last *corev1.Pod) {
	w.mu.Lock()
	w.gone = true
	if last.DeletionTimestamp != nil {
		w.pod = last
	}
	w.mu.Unlock()
	w.poke()
}

// end makes the node end the pod for a reason of its own, with a grace period in seconds
// (nil: the pod's own).
func (w *worker) end(f *podstatus.Final, grace *int64) {
	w.mu.Lock()
	if w.final == nil {
		w.final, w.grace = f, grace
	}
	w.mu.Unlock()
	w.poke()
}

// run is the loop; it ends when the pod is gone without trace or ctx ends.
func (w *worker) run(ctx context.Context) {
	defer w.waitJobs()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		began := time.Now()
		next, over := w.sync(ctx)
		w.k.counters.again.Observe(time.Since(began).Seconds())
		if over || ctx.Err() != nil {
			return
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(time.Until(next), time.Millisecond)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
	}
}

func (w *worker) waitJobs() {
	for _, j := range w.jobs() {
		j.cancel()
		<-j.done
	}
}

func (w *worker) jobs() []*job {
	var out []*job
	if w.bringing != nil {
		out = append(out, w.bringing)
	}
	for _, j := range w.killing {
		out = append(out, j)
	}
	if w.size.job != nil {
		out = append(out, w.size.job)
	}
	if w.ending != nil && w.ending.job != nil {
		out = append(out, w.ending.job)
	}
	return out
}

// lookAgain is the wait after the runtime did not answer.
const lookAgain = time.Second

// sync takes one step and answers when the next is due if nothing happens.
func (w *worker) sync(ctx context.Context) (next time.Time, over bool) {
	w.settled = !w.bringing.running()
	if err := w.observe(ctx); err != nil {
		w.k.log.Warn("look at pod", "pod", w.name(), "error", err)
		return time.Now().Add(lookAgain), false
	}
	w.mu.Lock()
	pod, gone, orphan, final, admitted := w.pod, w.gone, w.orphan, w.final, w.admitted
	w.mu.Unlock()
	if !gone && !orphan {
		pod = w.allocated(pod)
	}
	if w.ending == nil && !admitted && !gone && !orphan && final == nil && pod.DeletionTimestamp == nil {
		if final = w.admit(pod); final != nil {
			w.end(final, nil)
		}
	}
	if w.ending != nil || gone || orphan || final != nil || pod.DeletionTimestamp != nil || terminal(pod) {
		return w.finish(ctx, pod, gone || orphan)
	}
	return w.carryOn(ctx, pod)
}

func terminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (w *worker) name() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod.Namespace + "/" + w.pod.Name
}

// observe asks the runtime if something happened since the last time.
func (w *worker) observe(ctx context.Context) error {
	w.mu.Lock()
	stale, known := w.stale, w.observed
	w.stale = false
	w.mu.Unlock()
	if !stale {
		return nil
	}
	seen, err := w.k.reader.Pod(ctx, w.uid, known)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.stale = true
		return err
	}
	w.observed = w.early(seen)
	return nil
}

// carryOn keeps a living pod going.
func (w *worker) carryOn(ctx context.Context, pod *corev1.Pod) (time.Time, bool) {
	if f, at := deadline(pod); f != nil {
		w.end(f, nil)
		return w.finish(ctx, pod, false)
	} else if !at.IsZero() {
		next, over := w.step(ctx, pod)
		if next.IsZero() || at.Before(next) {
			next = at
		}
		return next, over
	}
	return w.step(ctx, pod)
}

func (w *worker) step(ctx context.Context, pod *corev1.Pod) (time.Time, bool) {
	w.probe(pod)
	p := plan.Decide(w.input(pod))
	if p.Finished && w.settled && len(w.killing) == 0 {
		w.done = true
		return w.finish(ctx, pod, false)
	}
	w.reap()
	p.Next = earlier(p.Next, w.actuate(ctx, pod))
	for _, kill := range p.Kills {
		w.kill(ctx, pod, kill)
	}
	w.report(pod, &p)
	if w.settled && w.due(pod, &p) {
		w.changing = slices.ContainsFunc(p.Starts, func(s plan.Start) bool { return s.Changed })
		w.bringing = w.begin(ctx, func(ctx context.Context) { w.bringUp(ctx, pod, p) })
		w.settled = false
	}
	w.show(pod, p.Waiting, false)
	return p.Next, false
}

// due tells whether there is something to bring up: parts of the pod that do not run, or
// volumes that this agent has not seen to yet.
func (w *worker) due(pod *corev1.Pod, p *plan.Plan) bool {
	if p.CreateSandbox || len(p.Starts) > 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if f, failed := w.failures[volumesKey]; failed && time.Now().Before(f.Retry) {
		p.Next = earlier(p.Next, f.Retry)
		return false
	}
	return w.mounted != mountKey(pod)
}

// earlier of two times, of which zero stands for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (w *worker) input(pod *corev1.Pod) plan.Input {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := plan.Input{Pod: pod, Observed: w.observed, Now: time.Now(), Backoffs: copyOf(w.backoffs), Failures: copyOf(w.failures),
		Dead: copyOf(w.dead), Previous: map[string]int32{}}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if list[i].ContainerID != "" {
				in.Previous[list[i].Name] = list[i].RestartCount
			}
		}
	}
	in.Started = func(id string) bool { return w.startedID(pod, id) }
	return in
}

func copyOf[V any](m map[string]V) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// reap forgets kills that are over.
func (w *worker) reap() {
	for id, j := range w.killing {
		if !j.running() {
			delete(w.killing, id)
		}
	}
}

// report tells of containers that wait out a backoff, once for each wait.
func (w *worker) report(pod *corev1.Pod, p *plan.Plan) {
	for _, name := range p.BackingOff {
		seen := w.observed.Newest(name)
		if seen == nil || w.told[name].Equal(seen.FinishedAt) {
			continue
		}
		w.told[name] = seen.FinishedAt
		w.k.event(pod, name, corev1.EventTypeWarning, "BackOff",
			"Back-off restarting failed container "+name+" in pod "+pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")")
	}
}

// probe begins the probes of containers that run and condemns those that failed for good.
func (w *worker) probe(pod *corev1.Pod) {
	w.mu.Lock()
	seen, ips := w.observed, podIPs(pod, w.observed, w.k.cfg.NodeIPs)
	w.mu.Unlock()
	for _, c := range probed(pod) {
		run := seen.Newest(c.Name)
		if run == nil {
			continue
		}
		if run.State != plan.Running {
			w.k.prober.Remove(run.ID)
			continue
		}
		w.k.prober.Add(probe.Target{Pod: pod, Container: c, ContainerID: run.ID, StartedAt: run.StartedAt, PodIP: firstOf(ips)})
		if w.k.prober.Verdict(run.ID, probe.Liveness) == probe.Failure {
			w.condemn(run.ID, "Container "+c.Name+" failed liveness probe, will be restarted")
		}
		if w.k.prober.Verdict(run.ID, probe.Startup) == probe.Failure {
			w.condemn(run.ID, "Container "+c.Name+" failed startup probe, will be restarted")
		}
	}
}

func (w *worker) condemn(id, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, have := w.dead[id]; !have {
		w.dead[id] = message
	}
}

// probed are the containers whose probes count: the pod's own and its sidecars.
func probed(pod *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; plan.Sidecar(c) {
			out = append(out, c)
		}
	}
	for i := range pod.Spec.Containers {
		out = append(out, &pod.Spec.Containers[i])
	}
	return out
}

// startedID tells whether the container has passed its startup probe and post-start hook; with mu held.
func (w *worker) startedID(pod *corev1.Pod, id string) bool {
	seen := w.observed.ByID(id)
	if seen == nil || w.hooking[id] {
		return false
	}
	for _, c := range probed(pod) {
		if c.Name == seen.Name && c.StartupProbe != nil {
			return w.k.prober.Verdict(id, probe.Startup) == probe.Success
		}
	}
	return true
}

func podIPs(pod *corev1.Pod, o *plan.Observed, node []string) []string {
	if pod.Spec.HostNetwork {
		return node
	}
	if s := o.Sandbox(); s != nil {
		return s.IPs
	}
	return nil
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// show computes the pod's status and hands it to the writer.
func (w *worker) show(pod *corev1.Pod, waiting map[string]plan.Waiting, finished bool) *corev1.PodStatus {
	w.readMessages()
	w.mu.Lock()
	defer w.mu.Unlock()
	status := podstatus.Compute(podstatus.Input{Pod: pod, Old: w.status, Observed: w.observed, Waiting: waiting,
		Started: func(_ *corev1.Container, id string) bool { return w.startedID(pod, id) },
		Ready: func(c *corev1.Container, id string) bool {
			return c.ReadinessProbe == nil || w.k.prober.Verdict(id, probe.Readiness) == probe.Success
		},
		Message:  func(c *plan.Container) string { return w.messages[c.ID] },
		Actuated: w.actuated, Resizing: []*corev1.PodCondition{w.size.pending, w.size.progress},
		Runtime: w.k.runtime, HostIPs: w.k.cfg.NodeIPs, Final: w.final, Terminating: w.ending != nil, Finished: finished, Now: time.Now()})
	w.status = &status
	if !w.gone && !w.orphan {
		w.begun(pod, &status)
		if w.passing(pod, &status, finished) {
			w.k.statuses.passing(pod, &status)
		} else {
			w.k.statuses.put(pod, &status)
		}
	}
	return &status
}

// passing tells whether a better status is about to follow this one: nothing of the pod runs
// yet and its start is under way, a container with a new image is about to take the place of
// the old one, or the pod's containers are being ended because it is deleted.
func (w *worker) passing(pod *corev1.Pod, s *corev1.PodStatus, finished bool) bool {
	if w.ending != nil {
		return pod.DeletionTimestamp != nil && !finished || terminal(pod)
	}
	return !w.settled && (w.changing || s.Phase == corev1.PodPending)
}

// deadline tells whether the pod has been active for too long, or when it will have been.
func deadline(pod *corev1.Pod) (*podstatus.Final, time.Time) {
	if pod.Spec.ActiveDeadlineSeconds == nil || pod.Status.StartTime == nil {
		return nil, time.Time{}
	}
	at := pod.Status.StartTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second)
	if time.Now().Before(at) {
		return nil, at
	}
	return &podstatus.Final{Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}, time.Time{}
}

// mountKey changes when a pod's volumes may have to change.
func mountKey(pod *corev1.Pod) string {
	key := string(podspec.Class(pod))
	for _, m := range []map[string]string{pod.Labels, pod.Annotations} {
		key += "|" + sorted(m)
	}
	return key
}
