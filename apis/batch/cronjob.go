package batch

import (
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
	"github.com/proa-dev/proa/internal/cronspec"
)

// CronJobs is the kind CronJob.
var CronJobs = api.Define(api.Resource[*batchv1.CronJob]{
	Group: batchv1.GroupName, Version: "v1", Kind: "CronJob", Plural: "cronjobs",
	Short: []string{"cj"}, Categories: []string{"all"}, Namespaced: true,
	UnconditionalUpdate: true, HasStatus: true, HasGeneration: true,
	Default: func(c *batchv1.CronJob) {
		if c.Spec.ConcurrencyPolicy == "" {
			c.Spec.ConcurrencyPolicy = batchv1.AllowConcurrent
		}
		fill(&c.Spec.Suspend, false)
		fill(&c.Spec.SuccessfulJobsHistoryLimit, 3)
		fill(&c.Spec.FailedJobsHistoryLimit, 1)
		core.DefaultPodTemplate(&c.Spec.JobTemplate.Spec.Template)
	},
	Validate:       validateCronJob,
	ValidateCreate: func(obj *batchv1.CronJob) field.ErrorList { return validateCronName(obj.Name) },
	Columns: []api.Column[*batchv1.CronJob]{
		{Name: "Schedule", Description: batchv1.CronJobSpec{}.SwaggerDoc()["schedule"], Value: func(c *batchv1.CronJob) any { return c.Spec.Schedule }},
		{Name: "Timezone", Description: batchv1.CronJobSpec{}.SwaggerDoc()["timeZone"], Value: func(c *batchv1.CronJob) any {
			if c.Spec.TimeZone == nil {
				return "<none>"
			}
			return *c.Spec.TimeZone
		}},
		{Name: "Suspend", Type: "boolean", Description: batchv1.CronJobSpec{}.SwaggerDoc()["suspend"], Value: func(c *batchv1.CronJob) any {
			if deref(c.Spec.Suspend) {
				return "True"
			}
			return "False"
		}},
		{Name: "Active", Type: "integer", Description: batchv1.CronJobStatus{}.SwaggerDoc()["active"], Value: func(c *batchv1.CronJob) any { return int64(len(c.Status.Active)) }},
		{Name: "Last Schedule", Description: batchv1.CronJobStatus{}.SwaggerDoc()["lastScheduleTime"], Value: func(c *batchv1.CronJob) any {
			if c.Status.LastScheduleTime == nil {
				return "<none>"
			}
			return api.Since(*c.Status.LastScheduleTime)
		}},
		api.Age[*batchv1.CronJob](),
		{Name: "Containers", Priority: 1, Description: "Names of each container in the template.", Value: func(c *batchv1.CronJob) any {
			return core.ContainerNames(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
		}},
		{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.", Value: func(c *batchv1.CronJob) any {
			return core.ContainerImages(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
		}},
		{Name: "Selector", Priority: 1, Description: batchv1.JobSpec{}.SwaggerDoc()["selector"], Value: func(c *batchv1.CronJob) any {
			return metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector)
		}},
	},
})

// longestCronName leaves room for the minutes that a job's name ends in.
const longestCronName = 52

func validateCronName(name string) field.ErrorList {
	if len(name) <= longestCronName {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata").Child("name"), name, fmt.Sprintf("must be no more than %d characters", longestCronName))}
}

func validateCronJob(c *batchv1.CronJob) field.ErrorList {
	spec, path := &c.Spec, field.NewPath("spec")
	errs := validateSchedule(spec, path)
	errs = append(errs, notNegative(spec.StartingDeadlineSeconds, path.Child("startingDeadlineSeconds"))...)
	policies := []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}
	switch spec.ConcurrencyPolicy {
	case batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent:
	case "":
		errs = append(errs, field.Required(path.Child("concurrencyPolicy"), ""))
	default:
		errs = append(errs, field.NotSupported(path.Child("concurrencyPolicy"), spec.ConcurrencyPolicy, policies))
	}
	at := path.Child("jobTemplate", "spec")
	if spec.JobTemplate.Spec.Selector != nil {
		errs = append(errs, field.Invalid(at.Child("selector"), spec.JobTemplate.Spec.Selector, "`selector` will be auto-generated"))
	}
	if deref(spec.JobTemplate.Spec.ManualSelector) {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), true, []string{"nil", "false"}))
	}
	errs = append(errs, validateJobSpec(&spec.JobTemplate.Spec, at)...)
	errs = append(errs, notNegative(spec.SuccessfulJobsHistoryLimit, path.Child("successfulJobsHistoryLimit"))...)
	errs = append(errs, notNegative(spec.FailedJobsHistoryLimit, path.Child("failedJobsHistoryLimit"))...)
	return append(errs, apivalidation.ValidateAnnotations(spec.JobTemplate.Annotations, path.Child("jobTemplate", "metadata", "annotations"))...)
}

func validateSchedule(s *batchv1.CronJobSpec, path *field.Path) field.ErrorList {
	at := path.Child("schedule")
	if s.Schedule == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if strings.Contains(s.Schedule, "TZ") {
		errs = append(errs, field.Invalid(at, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	} else if _, err := cronspec.Parse(s.Schedule); err != nil {
		errs = append(errs, field.Invalid(at, s.Schedule, err.Error()))
	}
	if z := s.TimeZone; z != nil {
		at := path.Child("timeZone")
		switch _, err := time.LoadLocation(*z); {
		case *z == "":
			errs = append(errs, field.Invalid(at, *z, "timeZone must be nil or non-empty string"))
		case strings.EqualFold(*z, "Local"):
			errs = append(errs, field.Invalid(at, *z, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
		case err != nil:
			errs = append(errs, field.Invalid(at, *z, err.Error()))
		}
	}
	return errs
}
