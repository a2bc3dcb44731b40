package batch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/core"
)

// Bounds of jobs with indexes, as the lists of indexes in their status must stay small.
const (
	mostParallel    = 100_000
	mostCompletions = 1_000_000
	longestManager  = 63
	longestIndexes  = 64 * 1024 // bytes
)

func validateJob(j *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateJobSpec(&j.Spec, path)
	if j.Spec.Selector == nil {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(j.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err == nil && !selector.Matches(labels.Set(j.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), j.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// validateOwn refuses a new job whose labels or selector are in the way of those that were to be made.
func validateOwn(j *batchv1.Job) field.ErrorList {
	if deref(j.Spec.ManualSelector) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	path, own := field.NewPath("spec"), ownLabels(j)
	for _, key := range []string{earlierUIDLabel, earlierNameLabel, batchv1.ControllerUidLabel, batchv1.JobNameLabel} {
		if at := path.Child("template", "metadata", "labels").Key(key); j.Spec.Template.Labels[key] != own[key] {
			errs = append(errs, field.Invalid(at, j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", own[key])))
		}
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(labels.Set(own)) {
		errs = append(errs, field.Invalid(path.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func notNegative[T int32 | int64](v *T, path *field.Path) field.ErrorList {
	if v == nil {
		return nil
	}
	return apivalidation.ValidateNonnegativeField(int64(*v), path)
}

func validateJobSpec(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := notNegative(s.Parallelism, path.Child("parallelism"))
	errs = append(errs, notNegative(s.Completions, path.Child("completions"))...)
	errs = append(errs, notNegative(s.ActiveDeadlineSeconds, path.Child("activeDeadlineSeconds"))...)
	errs = append(errs, notNegative(s.BackoffLimit, path.Child("backoffLimit"))...)
	errs = append(errs, notNegative(s.TTLSecondsAfterFinished, path.Child("ttlSecondsAfterFinished"))...)
	errs = append(errs, notNegative(s.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, notNegative(s.MaxFailedIndexes, path.Child("maxFailedIndexes"))...)
	errs = append(errs, validateIndexing(s, path)...)
	if m := s.ManagedBy; m != nil {
		at := path.Child("managedBy")
		errs = append(errs, validation.IsDomainPrefixedPath(at, *m)...)
		if len(*m) > longestManager {
			errs = append(errs, field.TooLong(at, "", longestManager))
		}
	}
	errs = append(errs, core.ValidatePodTemplate(&s.Template, path.Child("template"))...)
	at := path.Child("template", "spec", "restartPolicy")
	switch s.Template.Spec.RestartPolicy {
	case corev1.RestartPolicyAlways:
		errs = append(errs, field.Required(at, `valid values: "OnFailure", "Never"`))
	case corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	default:
		errs = append(errs, field.NotSupported(at, s.Template.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	errs = append(errs, validateFailurePolicy(s, path.Child("podFailurePolicy"))...)
	errs = append(errs, validateSuccessPolicy(s, path.Child("successPolicy"))...)
	policies := []batchv1.PodReplacementPolicy{batchv1.Failed}
	if s.PodFailurePolicy == nil {
		policies = append(policies, batchv1.TerminatingOrFailed)
	}
	if p := s.PodReplacementPolicy; p != nil && !slices.Contains(policies, *p) {
		errs = append(errs, field.NotSupported(path.Child("podReplacementPolicy"), *p, policies))
	}
	return errs
}

func validateIndexing(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	mode := deref(s.CompletionMode)
	if s.CompletionMode != nil && mode != batchv1.NonIndexedCompletion && mode != batchv1.IndexedCompletion {
		errs = append(errs, field.NotSupported(path.Child("completionMode"), mode, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}))
	}
	if mode != batchv1.IndexedCompletion {
		if s.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
	} else {
		if s.Completions == nil {
			errs = append(errs, field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
		} else if *s.Completions > mostCompletions {
			errs = append(errs, field.Invalid(path.Child("completions"), *s.Completions, fmt.Sprintf("must be less than or equal to %d", mostCompletions)))
		}
		if p := deref(s.Parallelism); p > mostParallel {
			errs = append(errs, field.Invalid(path.Child("parallelism"), p, fmt.Sprintf("must be less than or equal to %d when completion mode is %s", mostParallel, batchv1.IndexedCompletion)))
		}
	}
	if n := s.MaxFailedIndexes; n != nil {
		if s.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
		}
		if mode != batchv1.IndexedCompletion {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, "requires indexed completion mode"))
		}
		if s.Completions != nil && *n > *s.Completions {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, "must be less than or equal to completions"))
		}
	}
	return errs
}

func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if s.PodFailurePolicy == nil {
		return nil
	}
	var errs field.ErrorList
	if s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
		errs = append(errs, field.Invalid(path.Root().Child("template", "spec", "restartPolicy"), s.Template.Spec.RestartPolicy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	if n := len(s.PodFailurePolicy.Rules); n > 20 {
		errs = append(errs, field.TooMany(path.Child("rules"), n, 20))
	}
	actions := []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}
	if s.BackoffLimitPerIndex != nil {
		actions = append(actions, batchv1.PodFailurePolicyActionFailIndex)
	}
	for i, r := range s.PodFailurePolicy.Rules {
		at := path.Child("rules").Index(i)
		switch {
		case r.Action == "":
			errs = append(errs, field.Required(at.Child("action"), "valid values: [Count FailIndex FailJob Ignore]"))
		case r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil:
			errs = append(errs, field.Invalid(at.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
		case !slices.Contains(actions, r.Action):
			errs = append(errs, field.NotSupported(at.Child("action"), r.Action, actions))
		}
		switch {
		case r.OnExitCodes != nil && len(r.OnPodConditions) > 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case r.OnExitCodes == nil && len(r.OnPodConditions) == 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
		errs = append(errs, validateExitCodes(&s.Template.Spec, r.OnExitCodes, at.Child("onExitCodes"))...)
	}
	return errs
}

func validateExitCodes(pod *corev1.PodSpec, on *batchv1.PodFailurePolicyOnExitCodesRequirement, path *field.Path) field.ErrorList {
	if on == nil {
		return nil
	}
	var errs field.ErrorList
	if on.Operator != batchv1.PodFailurePolicyOnExitCodesOpIn && on.Operator != batchv1.PodFailurePolicyOnExitCodesOpNotIn {
		errs = append(errs, field.NotSupported(path.Child("operator"), on.Operator, []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}))
	}
	named := func(c corev1.Container) bool { return c.Name == *on.ContainerName }
	if on.ContainerName != nil && !slices.ContainsFunc(pod.Containers, named) && !slices.ContainsFunc(pod.InitContainers, named) {
		errs = append(errs, field.Invalid(path.Child("containerName"), *on.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	at := path.Child("values")
	switch n := len(on.Values); {
	case n == 0:
		errs = append(errs, field.Invalid(at, on.Values, "at least one value is required"))
	case n > 255:
		errs = append(errs, field.TooMany(at, n, 255))
	}
	for i, v := range on.Values {
		if v == 0 && on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			errs = append(errs, field.Invalid(at.Index(i), v, "must not be 0 for the In operator"))
		}
		if slices.Contains(on.Values[:i], v) {
			errs = append(errs, field.Duplicate(at.Index(i), v))
		}
	}
	if !slices.IsSorted(on.Values) {
		errs = append(errs, field.Invalid(at, on.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if s.SuccessPolicy == nil {
		return nil
	}
	if deref(s.CompletionMode) != batchv1.IndexedCompletion {
		return field.ErrorList{field.Invalid(path, s.SuccessPolicy, "requires indexed completion mode")}
	}
	var errs field.ErrorList
	rules := s.SuccessPolicy.Rules
	if len(rules) == 0 {
		errs = append(errs, field.Required(path.Child("rules"), "at least one rules must be specified when the successPolicy is specified"))
	}
	if len(rules) > 20 {
		errs = append(errs, field.TooMany(path.Child("rules"), len(rules), 20))
	}
	for i, r := range rules {
		at := path.Child("rules").Index(i)
		if r.SucceededCount == nil && r.SucceededIndexes == nil {
			errs = append(errs, field.Required(at, "at least one of succeededCount or succeededIndexes must be specified"))
		}
		total, indexes := int32(0), at.Child("succeededIndexes")
		if text := r.SucceededIndexes; text != nil {
			if len(*text) > longestIndexes {
				errs = append(errs, field.TooLong(indexes, "", longestIndexes))
			}
			var err error
			if total, err = countIndexes(*text, deref(s.Completions)); err != nil {
				errs = append(errs, field.Invalid(indexes, *text, "error parsing succeededIndexes: "+err.Error()))
			}
		}
		if n := r.SucceededCount; n != nil {
			errs = append(errs, notNegative(n, at.Child("succeededCount"))...)
			if s.Completions != nil && *n > *s.Completions {
				errs = append(errs, field.Invalid(at.Child("succeededCount"), *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", *s.Completions)))
			}
			if r.SucceededIndexes != nil && *n > total {
				errs = append(errs, field.Invalid(at.Child("succeededCount"), *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
			}
		}
	}
	return errs
}

// countIndexes reads "1,3-5,7": intervals that rise and stay below completions.
func countIndexes(text string, completions int32) (int32, error) {
	if text == "" {
		return 0, nil
	}
	total, last := 0, -1
	for _, interval := range strings.Split(text, ",") {
		parts := strings.Split(interval, "-")
		if len(parts) > 2 {
			return 0, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", interval)
		}
		ends := make([]int, len(parts))
		for i, p := range parts {
			n, err := strconv.Atoi(p)
			if err != nil {
				return 0, fmt.Errorf("cannot convert string to integer for index: %q", p)
			}
			if n >= int(completions) {
				return 0, fmt.Errorf("too large index: %q", p)
			}
			ends[i] = n
		}
		low, high := ends[0], ends[len(ends)-1]
		if len(ends) > 1 && low >= high {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", low, high)
		}
		if last >= low {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, low)
		}
		total, last = total+high-low+1, high
	}
	return int32(total), nil
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateCompletionsUpdate(&j.Spec, &old.Spec, path)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.Selector, old.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, validateTemplateUpdate(j, old, path.Child("template"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.CompletionMode, old.Spec.CompletionMode, path.Child("completionMode"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, path.Child("podFailurePolicy"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.ManagedBy, old.Spec.ManagedBy, path.Child("managedBy"))...)
	return append(errs, apivalidation.ValidateImmutableField(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, path.Child("successPolicy"))...)
}

// validateCompletionsUpdate lets a job with indexes grow and shrink: completions together
// with parallelism.
func validateCompletionsUpdate(s, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if deref(s.CompletionMode) == batchv1.IndexedCompletion && s.Completions != nil && old.Completions != nil && *s.Completions != *old.Completions {
		if s.Parallelism != nil && *s.Completions == *s.Parallelism {
			return nil
		}
		return field.ErrorList{field.Invalid(path.Child("completions"), *s.Completions, fmt.Sprintf("can only be modified in tandem with %s", path.Child("parallelism")))}
	}
	return apivalidation.ValidateImmutableField(s.Completions, old.Completions, path.Child("completions"))
}

// validateTemplateUpdate lets a queue change where the pods of a suspended job that has
// not started may run, and nothing else.
func validateTemplateUpdate(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	t, was := j.Spec.Template.DeepCopy(), &old.Spec.Template
	if deref(old.Spec.Suspend) && old.Status.StartTime == nil {
		t.Labels, t.Annotations = was.Labels, was.Annotations
		t.Spec.NodeSelector, t.Spec.Affinity = was.Spec.NodeSelector, was.Spec.Affinity
		t.Spec.Tolerations, t.Spec.SchedulingGates = was.Spec.Tolerations, was.Spec.SchedulingGates
	}
	if equality.Semantic.DeepEqual(t, was) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, j.Spec.Template, "field is immutable")}
}

func validateJobStatus(j, old *batchv1.Job) field.ErrorList {
	s, path := &j.Status, field.NewPath("status")
	errs := apivalidation.ValidateNonnegativeField(int64(s.Active), path.Child("active"))
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(s.Succeeded), path.Child("succeeded"))...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(s.Failed), path.Child("failed"))...)
	errs = append(errs, notNegative(s.Ready, path.Child("ready"))...)
	errs = append(errs, notNegative(s.Terminating, path.Child("terminating"))...)
	if s.Failed < old.Status.Failed {
		errs = append(errs, field.Invalid(path.Child("failed"), s.Failed, "cannot decrease the number of failed pods"))
	}
	return errs
}
