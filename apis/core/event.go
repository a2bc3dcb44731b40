package core

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

// EventTTL is how long an event is kept after its last write.
const EventTTL = time.Hour

// Events is the kind Event of the core group, also the stored form of events.k8s.io.
var Events = api.Define(api.Resource[*corev1.Event]{
	Version: "v1", Kind: "Event", Plural: "events", Short: []string{"ev"}, Namespaced: true,
	TTL:                 EventTTL,
	Dependents:          api.Unobserved,
	CreateOnUpdate:      true,
	UnconditionalUpdate: true,
	Validate:            func(e *corev1.Event) field.ErrorList { return ValidateEvent(e, "reportingComponent") },
	Fields:              eventFields,
	Columns:             EventColumns,
})

// Limits of the texts of an event that has a time of its own, in bytes.
const (
	maxEventWord = 128
	maxEventNote = 1024
)

// ValidateEvent checks an event of either group; reporter is what its field for who reports is called there.
func ValidateEvent(e *corev1.Event, reporter string) field.ErrorList {
	if e.EventTime.IsZero() {
		return validateOldEvent(e)
	}
	var errs field.ErrorList
	if e.InvolvedObject.Namespace == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), "", "does not match event.namespace"))
	}
	by := field.NewPath(reporter)
	if e.ReportingController == "" {
		errs = append(errs, field.Required(by, ""))
	}
	errs = append(errs, invalid(by, e.ReportingController, validation.IsQualifiedName(e.ReportingController))...)
	for _, f := range []struct {
		name, value string
		limit       int
		optional    bool
	}{
		{"reportingInstance", e.ReportingInstance, maxEventWord, false}, {"action", e.Action, maxEventWord, false},
		{"reason", e.Reason, maxEventWord, false}, {"message", e.Message, maxEventNote, true},
	} {
		if f.value == "" && !f.optional {
			errs = append(errs, field.Required(field.NewPath(f.name), ""))
		}
		if len(f.value) > f.limit {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", fmt.Sprintf("can have at most %d characters", f.limit)))
		}
	}
	return errs
}

// validateOldEvent checks an event as clients of the core group have always written them.
func validateOldEvent(e *corev1.Event) field.ErrorList {
	about := e.InvolvedObject.Namespace
	inDefault := e.Namespace == metav1.NamespaceNone || e.Namespace == metav1.NamespaceDefault
	if about == "" && !inDefault || about != "" && about != e.Namespace {
		return field.ErrorList{field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace")}
	}
	return nil
}

var eventFields = map[string]func(*corev1.Event) string{
	"involvedObject.kind":            func(e *corev1.Event) string { return e.InvolvedObject.Kind },
	"involvedObject.namespace":       func(e *corev1.Event) string { return e.InvolvedObject.Namespace },
	"involvedObject.name":            func(e *corev1.Event) string { return e.InvolvedObject.Name },
	"involvedObject.uid":             func(e *corev1.Event) string { return string(e.InvolvedObject.UID) },
	"involvedObject.apiVersion":      func(e *corev1.Event) string { return e.InvolvedObject.APIVersion },
	"involvedObject.resourceVersion": func(e *corev1.Event) string { return e.InvolvedObject.ResourceVersion },
	"involvedObject.fieldPath":       func(e *corev1.Event) string { return e.InvolvedObject.FieldPath },
	"reason":                         func(e *corev1.Event) string { return e.Reason },
	"reportingComponent":             func(e *corev1.Event) string { return e.ReportingController },
	"source":                         eventSourceComponent,
	"type":                           func(e *corev1.Event) string { return e.Type },
}

func eventSourceComponent(e *corev1.Event) string {
	if e.Source.Component == "" {
		return e.ReportingController
	}
	return e.Source.Component
}

// EventColumns hold the name too: for events it comes last, and only in the wide form.
var EventColumns = []api.Column[*corev1.Event]{
	text("Last Seen", corev1.Event{}.SwaggerDoc()["lastTimestamp"], eventLastSeen),
	text("Type", corev1.Event{}.SwaggerDoc()["type"], func(e *corev1.Event) string { return e.Type }),
	text("Reason", corev1.Event{}.SwaggerDoc()["reason"], func(e *corev1.Event) string { return e.Reason }),
	text("Object", corev1.Event{}.SwaggerDoc()["involvedObject"], eventTarget),
	wide("Subobject", corev1.Event{}.InvolvedObject.SwaggerDoc()["fieldPath"], func(e *corev1.Event) string { return e.InvolvedObject.FieldPath }),
	wide("Source", corev1.Event{}.SwaggerDoc()["source"], eventSource),
	text("Message", corev1.Event{}.SwaggerDoc()["message"], func(e *corev1.Event) string { return strings.TrimSpace(e.Message) }),
	wide("First Seen", corev1.Event{}.SwaggerDoc()["firstTimestamp"], eventFirstSeen),
	{Name: "Count", Description: corev1.Event{}.SwaggerDoc()["count"], Priority: 1, Value: eventCount},
	{Name: "Name", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"], Priority: 1, Value: func(e *corev1.Event) any { return e.Name }},
}

func eventFirstSeen(e *corev1.Event) string {
	if e.FirstTimestamp.IsZero() {
		return sinceMicro(e.EventTime)
	}
	return Since(e.FirstTimestamp)
}

func eventLastSeen(e *corev1.Event) string {
	if e.Series != nil {
		return sinceMicro(e.Series.LastObservedTime)
	}
	if e.LastTimestamp.IsZero() {
		return eventFirstSeen(e)
	}
	return Since(e.LastTimestamp)
}

func eventCount(e *corev1.Event) any {
	switch {
	case e.Series != nil:
		return int64(e.Series.Count)
	case e.Count == 0:
		return int64(1)
	}
	return int64(e.Count)
}

func eventTarget(e *corev1.Event) string {
	kind := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name == "" {
		return kind
	}
	return kind + "/" + e.InvolvedObject.Name
}

func eventSource(e *corev1.Event) string {
	component, host := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if host == "" {
		host = e.ReportingInstance
	}
	if host == "" {
		return component
	}
	return component + ", " + host
}
