// Package cronjob makes a Job whenever a CronJob's schedule says so.
//
// The one idea: the last time that is due follows from the schedule and the time of the
// last job; a job's name is made of that time, so that it is made once, whatever crashes.
//
// Used by controllers.All.
package cronjob

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/proa-dev/proa/controllers/loop"
	"github.com/proa-dev/proa/internal/cronspec"
)

var kind = batchv1.SchemeGroupVersion.WithKind("CronJob")

// Controller is the loop.
type Controller struct {
	*loop.Loop[loop.Key]
	deps     loop.Deps
	crons    batchlisters.CronJobLister
	jobs     cache.SharedIndexInformer
	recorder record.EventRecorder
	written  loop.Written
}

// New registers the loop's informers.
func New(deps loop.Deps) (*Controller, error) {
	batch := deps.Informers.Batch().V1()
	c := &Controller{deps: deps, crons: batch.CronJobs().Lister(), jobs: batch.Jobs().Informer(), recorder: deps.Recorder("cronjob-controller")}
	if err := loop.IndexByController(c.jobs); err != nil {
		return nil, err
	}
	c.Loop = loop.New("cronjob", deps, c.reconcile)
	c.Watch(batch.CronJobs().Informer(), loop.Self)
	c.Watch(c.jobs, func(obj any) []loop.Key {
		j, ok := obj.(*batchv1.Job)
		if !ok {
			return nil
		}
		if o := metav1.GetControllerOfNoCopy(j); o != nil && o.Kind == kind.Kind {
			return []loop.Key{{Namespace: j.Namespace, Name: o.Name}}
		}
		return nil
	})
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.Loop.Run(ctx, 5) }

func ended(j *batchv1.Job) batchv1.JobConditionType {
	for _, k := range j.Status.Conditions {
		if (k.Type == batchv1.JobComplete || k.Type == batchv1.JobFailed) && k.Status == corev1.ConditionTrue {
			return k.Type
		}
	}
	return ""
}

// due is the last time at or before now that asks for a job, zero when none does, and
// the next time after now.
func due(cj *batchv1.CronJob, now time.Time) (last, next time.Time, err error) {
	s, err := cronspec.Parse(cj.Spec.Schedule)
	if err != nil {
		return last, next, err
	}
	zone := time.Local
	if cj.Spec.TimeZone != nil {
		if zone, err = time.LoadLocation(*cj.Spec.TimeZone); err != nil {
			return last, next, err
		}
	}
	from := cj.CreationTimestamp.Time
	if t := cj.Status.LastScheduleTime; t != nil {
		from = t.Time
	}
	if d := cj.Spec.StartingDeadlineSeconds; d != nil {
		if earliest := now.Add(-time.Duration(*d) * time.Second); earliest.After(from) {
			from = earliest
		}
	}
	// A long sleep is crossed in steps that halve, not time by time.
	for ahead := now.Sub(from) / 2; ahead > time.Hour; ahead /= 2 {
		if t := s.Next(from.Add(ahead).In(zone)); !t.IsZero() && !t.After(now) {
			from = t.Add(-time.Second)
		}
	}
	for t := s.Next(from.In(zone)); ; t = s.Next(t) {
		if t.IsZero() || t.After(now) {
			return last, t, nil
		}
		last = t
	}
}

func (c *Controller) reconcile(ctx context.Context, key loop.Key) error {
	cached, err := c.crons.CronJobs(key.Namespace).Get(key.Name)
	if err != nil {
		return loop.Gone(err)
	}
	if cached.DeletionTimestamp != nil || !c.written.Shown(cached) {
		return nil
	}
	cj := cached.DeepCopy()
	jobs := loop.ControlledBy[*batchv1.Job](c.jobs, cj.UID)
	c.tidyStatus(cj, jobs)
	if err := c.prune(ctx, cj, jobs); err != nil {
		return err
	}
	if !*cj.Spec.Suspend {
		err = c.start(ctx, cj, jobs)
	}
	if !reflect.DeepEqual(cached.Status, cj.Status) {
		made, failed := c.deps.Client.BatchV1().CronJobs(cj.Namespace).UpdateStatus(ctx, cj, metav1.UpdateOptions{})
		if failed != nil {
			return loop.Gone(failed)
		}
		c.written.Note(made)
	}
	return err
}

// tidyStatus brings the list of active jobs and the time of the last success up to date.
func (c *Controller) tidyStatus(cj *batchv1.CronJob, jobs []*batchv1.Job) {
	was := cj.Status.Active
	cj.Status.Active = nil
	slices.SortFunc(jobs, func(a, b *batchv1.Job) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, j := range jobs {
		listed := slices.ContainsFunc(was, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		switch ended(j) {
		case "":
			cj.Status.Active = append(cj.Status.Active, refer(j))
		case batchv1.JobComplete:
			if t := j.Status.CompletionTime; t != nil && (cj.Status.LastSuccessfulTime == nil || cj.Status.LastSuccessfulTime.Before(t)) {
				cj.Status.LastSuccessfulTime = t
			}
		}
		if state := ended(j); listed && state != "" {
			c.recorder.Eventf(cj, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, state)
		}
	}
}

func refer(j *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Namespace: j.Namespace, Name: j.Name, UID: j.UID, ResourceVersion: j.ResourceVersion}
}

// prune deletes ended jobs beyond the history that is kept; jobs are oldest first.
func (c *Controller) prune(ctx context.Context, cj *batchv1.CronJob, jobs []*batchv1.Job) error {
	for state, limit := range map[batchv1.JobConditionType]*int32{batchv1.JobComplete: cj.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: cj.Spec.FailedJobsHistoryLimit} {
		if limit == nil {
			continue
		}
		var done []*batchv1.Job
		for _, j := range jobs {
			if ended(j) == state && j.DeletionTimestamp == nil {
				done = append(done, j)
			}
		}
		for i := 0; i < len(done)-int(*limit); i++ {
			if err := c.remove(ctx, cj, done[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Controller) remove(ctx context.Context, cj *batchv1.CronJob, j *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	err := c.deps.Client.BatchV1().Jobs(j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: metav1.NewUIDPreconditions(string(j.UID))})
	if err == nil {
		c.recorder.Eventf(cj, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", j.Name)
	}
	return loop.Gone(err)
}

// start makes the job that is due, if its policy lets it, and asks to be woken for the next.
func (c *Controller) start(ctx context.Context, cj *batchv1.CronJob, jobs []*batchv1.Job) error {
	now := c.deps.Clock.Now()
	last, next, err := due(cj, now)
	if err != nil {
		c.recorder.Eventf(cj, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", cj.Spec.Schedule, err)
		return nil
	}
	if !next.IsZero() {
		c.AddAfter(loop.Key{Namespace: cj.Namespace, Name: cj.Name}, next.Sub(now)+100*time.Millisecond)
	}
	if last.IsZero() {
		return nil
	}
	switch {
	case len(cj.Status.Active) == 0 || cj.Spec.ConcurrencyPolicy == batchv1.AllowConcurrent:
	case cj.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent:
		c.recorder.Eventf(cj, corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return nil
	default:
		for _, j := range jobs {
			if ended(j) == "" {
				if err := c.remove(ctx, cj, j); err != nil {
					return err
				}
			}
		}
		cj.Status.Active = nil
	}
	made, err := c.deps.Client.BatchV1().Jobs(cj.Namespace).Create(ctx, jobFor(cj, last), metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err): // made before a restart
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		c.recorder.Eventf(cj, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return err
	default:
		c.recorder.Eventf(cj, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
		cj.Status.Active = append(cj.Status.Active, refer(made))
	}
	at := metav1.NewTime(last)
	cj.Status.LastScheduleTime = &at
	return nil
}

// jobFor is the job of a time; its name ends in the minutes since 1970.
func jobFor(cj *batchv1.CronJob, at time.Time) *batchv1.Job {
	template := cj.Spec.JobTemplate.DeepCopy()
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cj.Namespace, Name: fmt.Sprintf("%s-%d", cj.Name, at.Unix()/60),
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations),
			CreationTimestamp: metav1.NewTime(at), OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cj, kind)},
		},
		Spec: template.Spec,
	}
	if j.Annotations == nil {
		j.Annotations = map[string]string{}
	}
	j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.Format(time.RFC3339)
	return j
}
