// Package plan decides what has to happen next for one pod. It is a pure function of the
// pod's spec, of what the runtime has of it, of probe results and of the time; the
// kubelet's pod worker performs what it says and asks again.
//
// The one idea: every fault of the node agent's life (a restart of the agent, a killed
// sandbox, a lost event) is only another observed state, so nothing is remembered between
// two decisions but the crash backoffs.
package plan

import (
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Backoff is how long a container that ends again and again waits between two starts.
type Backoff struct {
	Delay time.Duration // the wait after the end of the last run
	Since time.Time     // end of the run that set it
}

// Limits of the crash backoff, as upstream's.
const (
	BackoffFirst = 10 * time.Second
	BackoffMost  = 300 * time.Second
	// BackoffReset is how long a container must have run for its backoff to begin anew.
	BackoffReset = 2 * BackoffMost
)

// Failure is a start that did not work; it is tried again at Retry.
type Failure struct {
	Reason, Message string
	Retry           time.Time
}

// Input is everything a decision depends on.
type Input struct {
	Pod      *corev1.Pod
	Observed *Observed
	Now      time.Time
	Backoffs map[string]Backoff // by container name
	Failures map[string]Failure // failed starts by container name; "" for the sandbox
	Dead     map[string]string  // container id -> message: containers that a probe or a hook condemned
	Started  func(containerID string) bool
	Previous map[string]int32 // restart counts known from the API, for containers the runtime has forgotten
}

// Start is a container to start.
type Start struct {
	Container *corev1.Container
	Attempt   uint32
	Init      bool
	Target    string // of an ephemeral container: the container whose processes it sees
	Backoff   Backoff
	Replaces  string // id of the finished container that this one restarts; empty at first
	Changed   bool   // it replaces a container of another definition
}

// Kill is a running container to end.
type Kill struct {
	Container *corev1.Container // nil when the spec no longer has it
	ID        string
	Name      string
	Message   string
}

// Waiting is why a container does not run yet.
type Waiting struct{ Reason, Message string }

// Plan is a decision. Finished and CreateSandbox exclude each other.
type Plan struct {
	StopSandbox   bool   // end every container and the sandbox first: the sandbox is lost or wrong
	CreateSandbox bool   // Starts are then those that follow the new sandbox
	Attempt       uint32 // of the sandbox to make
	Starts        []Start
	Kills         []Kill
	Waiting       map[string]Waiting // by container name: CrashLoopBackOff and failed starts
	BackingOff    []string           // containers that wait out a crash backoff
	Finished      bool               // every container is done and none will be started again
	Next          time.Time          // when to decide again if nothing happens; zero: never
}

// Hash identifies what of a container's spec needs a new container when it changes.
func Hash(c *corev1.Container) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%s", c.Name, c.Image)
	return fmt.Sprintf("%x", h.Sum32())
}

// Sidecar tells whether an init container keeps running beside the pod's containers.
func Sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// Decide answers what to do now.
func Decide(in Input) Plan {
	d := &decision{Input: in, plan: Plan{Waiting: map[string]Waiting{}}}
	sandbox := in.Observed.Sandbox()
	switch {
	case sandbox == nil || !sandbox.Ready || d.lostNetwork(sandbox):
		d.fromNothing(sandbox)
	default:
		d.inSandbox()
	}
	return d.plan
}

type decision struct {
	Input
	plan Plan
}

func (d *decision) lostNetwork(s *Sandbox) bool {
	return !d.Pod.Spec.HostNetwork && len(s.IPs) == 0
}

// fromNothing decides for a pod without a usable sandbox: nothing that ran in the old one runs on.
func (d *decision) fromNothing(old *Sandbox) {
	if old != nil {
		d.plan.Attempt = old.Attempt + 1
		d.plan.StopSandbox = old.Ready || d.Observed.Live()
	}
	if !d.wantsSandbox(old) {
		d.plan.Finished = true
		return
	}
	if f, ok := d.Failures[""]; ok && d.Now.Before(f.Retry) {
		d.wait(f.Retry)
		return
	}
	d.plan.CreateSandbox = true
	if len(d.Pod.Spec.InitContainers) > 0 {
		d.start(&d.Pod.Spec.InitContainers[0], true)
		return
	}
	for i := range d.Pod.Spec.Containers {
		if c := &d.Pod.Spec.Containers[i]; !d.done(c) {
			d.start(c, false)
		}
	}
}

// wantsSandbox: a pod that never ran wants one; one that ran wants another unless all it
// had to do is done or it may not be tried again.
func (d *decision) wantsSandbox(old *Sandbox) bool {
	if old == nil && len(d.Observed.containers()) == 0 {
		return true
	}
	if d.Pod.Spec.RestartPolicy == corev1.RestartPolicyNever && len(d.Observed.containers()) > 0 {
		return d.neverButUnstarted()
	}
	for i := range d.Pod.Spec.Containers {
		if !d.done(&d.Pod.Spec.Containers[i]) {
			return true
		}
	}
	return false
}

// neverButUnstarted: with restartPolicy Never a lost sandbox is made again only while no
// container has begun.
func (d *decision) neverButUnstarted() bool {
	for _, c := range d.Observed.containers() {
		if c.State != Created {
			return false
		}
	}
	return true
}

func (o *Observed) containers() []Container {
	if o == nil {
		return nil
	}
	return o.Containers
}

// done tells whether a container has ended and is not started again.
func (d *decision) done(c *corev1.Container) bool {
	seen := d.Observed.Newest(c.Name)
	return seen != nil && seen.State == Exited && !d.restarts(c, seen)
}

// restarts applies the restart policy (the container's own rules before the pod's) to an ended container.
func (d *decision) restarts(c *corev1.Container, seen *Container) bool {
	if rule := matchingRule(c, seen.ExitCode); rule {
		return true
	}
	policy := d.Pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	if _, ended := d.Dead[seen.ID]; ended && policy != corev1.RestartPolicyNever {
		return true // the node ended it to have it run again, however it took that
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return seen.ExitCode != 0
	}
	return true
}

func matchingRule(c *corev1.Container, code int32) bool {
	for _, r := range c.RestartPolicyRules {
		if r.ExitCodes == nil || r.Action != corev1.ContainerRestartRuleActionRestart {
			continue
		}
		in := false
		for _, v := range r.ExitCodes.Values {
			in = in || v == code
		}
		if in == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return true
		}
	}
	return false
}

// inSandbox decides for a pod whose sandbox is good.
func (d *decision) inSandbox() {
	for i := range d.Pod.Spec.EphemeralContainers {
		e := &d.Pod.Spec.EphemeralContainers[i]
		if d.Observed.Newest(e.Name) == nil {
			c := corev1.Container(e.EphemeralContainerCommon)
			d.start(&c, false)
			if n := len(d.plan.Starts); n > 0 && d.plan.Starts[n-1].Container == &c {
				d.plan.Starts[n-1].Target = e.TargetContainerName
			}
		}
	}
	ready, failed := d.initContainers()
	if failed {
		d.plan.Finished, d.plan.Starts = true, nil
		return
	}
	if !ready {
		return
	}
	d.appContainers()
}

func (d *decision) appContainers() {
	left := 0
	for i := range d.Pod.Spec.Containers {
		c := &d.Pod.Spec.Containers[i]
		if d.keep(c, false) {
			left++
		}
	}
	d.plan.Finished = left == 0
	if d.plan.Finished {
		d.plan.Starts, d.plan.Kills = nil, nil
	}
}

// keep decides for one container that should run and tells whether it is still alive to the pod.
func (d *decision) keep(c *corev1.Container, init bool) bool {
	seen := d.Observed.Newest(c.Name)
	switch {
	case seen == nil:
		d.start(c, init)
	case seen.State == Running:
		d.check(c, seen)
	case seen.State == Exited && !d.restarts(c, seen):
		return false
	case seen.State == Exited:
		d.restart(c, seen, init)
	default: // made but never started, or the runtime does not know: make another
		d.start(c, init)
	}
	return true
}

// check ends a running container that a probe condemned or whose image changed; the next
// decision starts it anew.
func (d *decision) check(c *corev1.Container, seen *Container) {
	kill := Kill{Container: c, ID: seen.ID, Name: c.Name}
	if message, dead := d.Dead[seen.ID]; dead {
		kill.Message = message
	} else if seen.Hash != "" && seen.Hash != Hash(c) {
		kill.Message = fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)
	} else {
		return
	}
	d.plan.Kills = append(d.plan.Kills, kill)
}

// restart starts an ended container again once its backoff is over.
func (d *decision) restart(c *corev1.Container, seen *Container, init bool) {
	b, had := d.Backoffs[c.Name]
	changed := seen.Hash != "" && seen.Hash != Hash(c) // another image may do better
	if had && (changed || seen.FinishedAt.Sub(b.Since) > BackoffReset) {
		had = false
	}
	if until := seen.FinishedAt.Add(b.Delay); had && d.Now.Before(until) {
		d.plan.Waiting[c.Name] = Waiting{"CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			b.Delay, c.Name, d.Pod.Name, d.Pod.Namespace, d.Pod.UID)}
		d.plan.BackingOff = append(d.plan.BackingOff, c.Name)
		d.wait(until)
		return
	}
	next := Backoff{Delay: BackoffFirst, Since: seen.FinishedAt}
	if had {
		next.Delay = min(b.Delay*2, BackoffMost)
	}
	before := len(d.plan.Starts)
	d.start(c, init)
	if len(d.plan.Starts) > before {
		d.plan.Starts[before].Backoff = next
		d.plan.Starts[before].Replaces, d.plan.Starts[before].Changed = seen.ID, changed
	}
}

// start plans a start, unless the last try failed and its time has not come.
func (d *decision) start(c *corev1.Container, init bool) {
	if f, ok := d.Failures[c.Name]; ok {
		if f.Reason != "" {
			d.plan.Waiting[c.Name] = Waiting{f.Reason, f.Message}
		}
		if d.Now.Before(f.Retry) {
			d.wait(f.Retry)
			return
		}
	}
	s := Start{Container: c, Init: init}
	if seen := d.Observed.Newest(c.Name); seen != nil {
		s.Attempt = seen.Attempt + 1
	} else if n, ok := d.Previous[c.Name]; ok {
		s.Attempt = uint32(n) + 1
	}
	d.plan.Starts = append(d.plan.Starts, s)
}

func (d *decision) wait(until time.Time) {
	if d.plan.Next.IsZero() || until.Before(d.plan.Next) {
		d.plan.Next = until
	}
}
