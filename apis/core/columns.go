package core

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/proa-dev/proa/apis/api"
)

const none, unknown = "<none>", "<unknown>"

// Age is the age column of kubectl get.
func Age[T api.Object]() api.Column[T] {
	return api.Column[T]{
		Name: "Age", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		Value: func(o T) any { return Since(o.GetCreationTimestamp()) },
	}
}

// Since is how long ago a time was, as kubectl shows it.
func Since(t metav1.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(time.Since(t.Time))
}

func sinceMicro(t metav1.MicroTime) string { return Since(metav1.NewTime(t.Time)) }

func text[T api.Object](name, description string, value func(T) string) api.Column[T] {
	return api.Column[T]{Name: name, Description: description, Value: func(o T) any { return value(o) }}
}

func wide[T api.Object](name, description string, value func(T) string) api.Column[T] {
	c := text(name, description, value)
	c.Priority = 1
	return c
}

func integer[T api.Object](name, description string, value func(T) int64) api.Column[T] {
	return api.Column[T]{Name: name, Type: "integer", Description: description, Value: func(o T) any { return value(o) }}
}

func count[T api.Object](name, description string, value func(T) int) api.Column[T] {
	return api.Column[T]{Name: name, Description: description, Value: func(o T) any { return int64(value(o)) }}
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func formatLabels(m map[string]string) string { return orNone(labels.Set(m).String()) }

func joinSorted(set []string) string {
	slices.Sort(set)
	return strings.Join(slices.Compact(set), ",")
}
