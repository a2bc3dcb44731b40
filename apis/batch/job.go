package batch

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
)

// Jobs is the kind Job.
var Jobs = api.Define(api.Resource[*batchv1.Job]{
	Group: batchv1.GroupName, Version: "v1", Kind: "Job", Plural: "jobs",
	Categories: []string{"all"}, Namespaced: true,
	UnconditionalUpdate: true, HasStatus: true, HasGeneration: true, Dependents: api.Orphaned,
	OrphansText:    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
	Default:        defaultJob,
	PrepareCreate:  func(_ context.Context, j *batchv1.Job) { selectOwn(j) },
	ValidateCreate: validateOwn,
	Validate:       validateJob, ValidateUpdate: validateJobUpdate,
	ValidateStatus: func(obj, old *batchv1.Job) field.ErrorList { return validateJobStatus(obj, old) },
	FieldText:      "field label \"%s\" not supported for Job",
	Fields: map[string]func(*batchv1.Job) string{
		"status.successful": func(j *batchv1.Job) string { return strconv.Itoa(int(j.Status.Succeeded)) },
	},
	Columns: jobColumns(),
})

func fill[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func defaultJob(j *batchv1.Job) {
	defaultJobSpec(&j.Spec)
	if len(j.Labels) == 0 {
		j.Labels = j.Spec.Template.Labels
	}
}

func defaultJobSpec(s *batchv1.JobSpec) {
	core.DefaultPodTemplate(&s.Template)
	if s.Completions == nil && s.Parallelism == nil {
		fill(&s.Completions, 1)
	}
	fill(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		fill(&s.BackoffLimit, math.MaxInt32)
	}
	fill(&s.BackoffLimit, 6)
	fill(&s.CompletionMode, batchv1.NonIndexedCompletion)
	fill(&s.Suspend, false)
	fill(&s.ManualSelector, false)
	if s.PodFailurePolicy != nil {
		fill(&s.PodReplacementPolicy, batchv1.Failed)
		for i := range s.PodFailurePolicy.Rules {
			for k := range s.PodFailurePolicy.Rules[i].OnPodConditions {
				if c := &s.PodFailurePolicy.Rules[i].OnPodConditions[k]; c.Status == "" {
					c.Status = corev1.ConditionTrue
				}
			}
		}
	}
	fill(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
}

// Names of labels from before they had a domain.
const (
	earlierUIDLabel  = "controller-uid"
	earlierNameLabel = "job-name"
)

// ownLabels are on the pods of a job that does not select them by itself.
func ownLabels(j *batchv1.Job) map[string]string {
	return map[string]string{
		batchv1.ControllerUidLabel: string(j.UID), earlierUIDLabel: string(j.UID),
		batchv1.JobNameLabel: j.Name, earlierNameLabel: j.Name,
	}
}

// selectOwn lets a job select its own pods by its UID, unless the user wants to do so.
// What is there and other is kept, and refused later.
func selectOwn(j *batchv1.Job) {
	if deref(j.Spec.ManualSelector) {
		return
	}
	t := &j.Spec.Template
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	for key, value := range ownLabels(j) {
		if _, set := t.Labels[key]; !set {
			t.Labels[key] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, set := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !set {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
	if len(j.Labels) == 0 {
		j.Labels = maps.Clone(t.Labels)
	}
}

func jobColumns() []api.Column[*batchv1.Job] {
	return []api.Column[*batchv1.Job]{
		{Name: "Status", Description: "Status of the job.", Value: func(j *batchv1.Job) any { return jobState(j) }},
		{Name: "Completions", Description: batchv1.JobStatus{}.SwaggerDoc()["succeeded"], Value: func(j *batchv1.Job) any {
			if j.Spec.Completions != nil {
				return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
			}
			if p := deref(j.Spec.Parallelism); p > 1 {
				return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, p)
			}
			return fmt.Sprintf("%d/1", j.Status.Succeeded)
		}},
		{Name: "Duration", Description: "Time required to complete the job.", Value: func(j *batchv1.Job) any {
			switch {
			case j.Status.StartTime == nil:
				return ""
			case j.Status.CompletionTime == nil:
				return api.Since(*j.Status.StartTime)
			}
			return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
		}},
		api.Age[*batchv1.Job](),
		{Name: "Containers", Priority: 1, Description: "Names of each container in the template.", Value: func(j *batchv1.Job) any {
			return core.ContainerNames(j.Spec.Template.Spec.Containers)
		}},
		{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.", Value: func(j *batchv1.Job) any {
			return core.ContainerImages(j.Spec.Template.Spec.Containers)
		}},
		{Name: "Selector", Priority: 1, Description: batchv1.JobSpec{}.SwaggerDoc()["selector"], Value: func(j *batchv1.Job) any {
			return metav1.FormatLabelSelector(j.Spec.Selector)
		}},
	}
}

// jobState is the condition that says most about a job.
func jobState(j *batchv1.Job) string {
	has := func(t batchv1.JobConditionType) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == t && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	}
	switch {
	case has(batchv1.JobComplete):
		return "Complete"
	case has(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case has(batchv1.JobSuspended):
		return "Suspended"
	case has(batchv1.JobFailureTarget):
		return "FailureTarget"
	case has(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}
