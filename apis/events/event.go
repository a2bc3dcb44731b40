// Package events describes the kinds of events.k8s.io to the server.
package events

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// Kinds are the group's kinds.
var Kinds = []*api.Kind{events}

// events are the core group's events seen with newer field names; they are stored as those.
var events = api.Define(api.Resource[*eventsv1.Event]{
	Group: eventsv1.GroupName, Version: "v1", Kind: "Event", Plural: "events", Short: []string{"ev"}, Namespaced: true,
	Prefix: "events", TTL: time.Hour,
	Storage:             &api.Conversion[*eventsv1.Event]{Version: "v1", From: fromCore, To: toCore},
	CreateOnUpdate:      true,
	UnconditionalUpdate: true,
	Validate:            validate,
	ValidateCreate:      validateNew,
	ValidateUpdate:      validateUpdate,
	Columns: []api.Column[*eventsv1.Event]{
		{Name: "Last Seen", Value: func(e *eventsv1.Event) any { return lastSeen(e) }},
		{Name: "Type", Value: func(e *eventsv1.Event) any { return e.Type }},
		{Name: "Reason", Value: func(e *eventsv1.Event) any { return e.Reason }},
		{Name: "Object", Value: func(e *eventsv1.Event) any { return object(e.Regarding) }},
		{Name: "Subobject", Priority: 1, Value: func(e *eventsv1.Event) any { return e.Regarding.FieldPath }},
		{Name: "Source", Priority: 1, Value: func(e *eventsv1.Event) any { return source(e) }},
		{Name: "Message", Value: func(e *eventsv1.Event) any { return e.Note }},
		{Name: "First Seen", Priority: 1, Value: func(e *eventsv1.Event) any { return firstSeen(e) }},
		{Name: "Count", Priority: 1, Value: func(e *eventsv1.Event) any { return count(e) }},
		{Name: "Name", Priority: 1, Value: func(e *eventsv1.Event) any { return e.Name }},
	},
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

// legacy events, written by the core API, lack what the newer API demands.
func legacy(e *eventsv1.Event) bool { return e.EventTime.IsZero() }

func validate(e *eventsv1.Event) field.ErrorList {
	var errs field.ErrorList
	if legacy(e) {
		return append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Series != nil {
		path := field.NewPath("series")
		if e.Series.Count < 2 {
			errs = append(errs, field.Invalid(path.Child("count"), "", "should be at least 2"))
		}
		if e.Series.LastObservedTime.IsZero() {
			errs = append(errs, field.Required(path.Child("lastObservedTime"), ""))
		}
	}
	if e.ReportingController == "" {
		errs = append(errs, field.Required(field.NewPath("reportingController"), ""))
	}
	for _, m := range validation.IsQualifiedName(e.ReportingController) {
		errs = append(errs, field.Invalid(field.NewPath("reportingController"), e.ReportingController, m))
	}
	if e.ReportingInstance == "" {
		errs = append(errs, field.Required(field.NewPath("reportingInstance"), ""))
	}
	for _, f := range []struct {
		name, value string
		limit       int
		required    bool
	}{{"reportingInstance", e.ReportingInstance, 128, false}, {"action", e.Action, 128, true}, {"reason", e.Reason, 128, true}, {"message", e.Note, 1024, false}} {
		if f.required && f.value == "" {
			errs = append(errs, field.Required(field.NewPath(f.name), ""))
		}
		if len(f.value) > f.limit {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", fmt.Sprintf("can have at most %d characters", f.limit)))
		}
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	return errs
}

// validateNew refuses what only the core group's clients write.
func validateNew(e *eventsv1.Event) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !e.DeprecatedFirstTimestamp.IsZero()}, {"lastTimestamp", !e.DeprecatedLastTimestamp.IsZero()},
		{"count", e.DeprecatedCount != 0}, {"source", e.DeprecatedSource != corev1.EventSource{}},
	} {
		if f.set {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", "needs to be unset"))
		}
	}
	return errs
}

func validateUpdate(e, old *eventsv1.Event) field.ErrorList {
	if legacy(old) {
		return nil
	}
	var errs field.ErrorList
	if e.EventTime.UnixMicro() != old.EventTime.UnixMicro() {
		errs = append(errs, field.Invalid(field.NewPath("eventTime"), e.EventTime, "field is immutable"))
	}
	for _, f := range []struct{ name, now, before string }{
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
		{"action", e.Action, old.Action}, {"reason", e.Reason, old.Reason},
		{"message", e.Note, old.Note}, {"type", e.Type, old.Type},
	} {
		if f.now != f.before {
			errs = append(errs, field.Invalid(field.NewPath(f.name), f.now, "field is immutable"))
		}
	}
	if e.Regarding != old.Regarding {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject"), e.Regarding, "field is immutable"))
	}
	return errs
}
