// Package events describes the kinds of events.k8s.io to the server.
package events

import (
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/core"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{events}

// events are the core group's events seen with newer field names; they are stored as those.
var events = api.Define(api.Resource[*eventsv1.Event]{
	Group: eventsv1.GroupName, Version: "v1", Kind: "Event", Plural: "events", Short: []string{"ev"}, Namespaced: true,
	Prefix: "events", TTL: time.Hour,
	Storage:             &api.Conversion[*eventsv1.Event]{Version: "v1", From: fromCore, To: toCore},
	Dependents:          api.Unobserved,
	CreateOnUpdate:      true,
	UnconditionalUpdate: true,
	Ratchets:            true, // events of the core group's clients lack what the newer API demands
	Validate:            validateNew,
	ValidateUpdate:      validateUpdate,
	Columns:             columns(),
	Fields: map[string]func(*eventsv1.Event) string{
		"reason":              func(e *eventsv1.Event) string { return e.Reason },
		"reportingController": func(e *eventsv1.Event) string { return e.ReportingController },
		"type":                func(e *eventsv1.Event) string { return e.Type },
		"regarding.kind":      func(e *eventsv1.Event) string { return e.Regarding.Kind },
		"regarding.name":      func(e *eventsv1.Event) string { return e.Regarding.Name },
		"regarding.namespace": func(e *eventsv1.Event) string { return e.Regarding.Namespace },
		"regarding.uid":       func(e *eventsv1.Event) string { return string(e.Regarding.UID) },
	},
})

func fromCore(o api.Object) *eventsv1.Event {
	c := o.(*corev1.Event)
	e := &eventsv1.Event{
		ObjectMeta: c.ObjectMeta, EventTime: c.EventTime, ReportingController: c.ReportingController,
		ReportingInstance: c.ReportingInstance, Action: c.Action, Reason: c.Reason, Regarding: c.InvolvedObject,
		Related: c.Related, Note: c.Message, Type: c.Type, DeprecatedSource: c.Source,
		DeprecatedFirstTimestamp: c.FirstTimestamp, DeprecatedLastTimestamp: c.LastTimestamp, DeprecatedCount: c.Count,
	}
	if c.Series != nil {
		e.Series = &eventsv1.EventSeries{Count: c.Series.Count, LastObservedTime: c.Series.LastObservedTime}
	}
	e.APIVersion, e.Kind = eventsv1.SchemeGroupVersion.String(), "Event"
	return e
}

func toCore(e *eventsv1.Event) api.Object {
	c := &corev1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime, ReportingController: e.ReportingController,
		ReportingInstance: e.ReportingInstance, Action: e.Action, Reason: e.Reason, InvolvedObject: e.Regarding,
		Related: e.Related, Message: e.Note, Type: e.Type, Source: e.DeprecatedSource,
		FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
	}
	if e.Series != nil {
		c.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	c.APIVersion, c.Kind = "v1", "Event"
	return c
}

// reporter is the field that the core group calls reportingComponent.
const reporter = "reportingController"

func validateNew(e *eventsv1.Event) field.ErrorList {
	c := toCore(e).(*corev1.Event)
	errs := append(core.ValidateEvent(c, reporter), validateSeries(e.Series)...)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !c.FirstTimestamp.IsZero()}, {"lastTimestamp", !c.LastTimestamp.IsZero()},
		{"count", c.Count != 0}, {"source", c.Source != corev1.EventSource{}},
	} {
		if f.set {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", "needs to be unset"))
		}
	}
	return errs
}

func validateSeries(s *eventsv1.EventSeries) (errs field.ErrorList) {
	if s == nil {
		return nil
	}
	if s.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series.count"), "", "should be at least 2"))
	}
	if s.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series.lastObservedTime"), ""))
	}
	return errs
}

// validateUpdate: of an event only the series and the metadata change.
func validateUpdate(e, old *eventsv1.Event) field.ErrorList {
	now, was := toCore(e).(*corev1.Event), toCore(old).(*corev1.Event)
	errs := core.ValidateEvent(now, reporter)
	if !reflect.DeepEqual(e.Series, old.Series) {
		errs = append(errs, validateSeries(e.Series)...)
	}
	fixed := func(name string, a, b any) {
		errs = append(errs, apivalidation.ValidateImmutableField(a, b, field.NewPath(name))...)
	}
	fixed("involvedObject", now.InvolvedObject, was.InvolvedObject)
	fixed("reason", now.Reason, was.Reason)
	fixed("message", now.Message, was.Message)
	fixed("source", now.Source, was.Source)
	fixed("firstTimestamp", now.FirstTimestamp, was.FirstTimestamp)
	fixed("lastTimestamp", now.LastTimestamp, was.LastTimestamp)
	fixed("count", now.Count, was.Count)
	fixed("reason", now.Reason, was.Reason) // twice, as Kubernetes says it
	fixed("type", now.Type, was.Type)
	if now.EventTime.UnixMicro() != was.EventTime.UnixMicro() {
		fixed("eventTime", now.EventTime, was.EventTime)
	}
	fixed("action", now.Action, was.Action)
	fixed("related", now.Related, was.Related)
	fixed(reporter, now.ReportingController, was.ReportingController)
	fixed("reportingInstance", now.ReportingInstance, was.ReportingInstance)
	return errs
}

// columns are those of the stored form.
func columns() []api.Column[*eventsv1.Event] {
	var all []api.Column[*eventsv1.Event]
	for _, c := range core.EventColumns {
		all = append(all, api.Column[*eventsv1.Event]{
			Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority,
			Value: func(e *eventsv1.Event) any { return c.Value(toCore(e).(*corev1.Event)) },
		})
	}
	return all
}
