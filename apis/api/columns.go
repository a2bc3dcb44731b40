package api

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Age is the column of most kinds: how long ago the object was created.
func Age[T Object]() Column[T] {
	return Column[T]{
		Name: "Age", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		Value: func(obj T) any { return Since(obj.GetCreationTimestamp()) },
	}
}

// Since writes the time since t as kubectl shows it ("5m", "3d4h"), "<unknown>" for zero.
func Since(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// Text is a column of words in the narrow form.
func Text[T Object](name, description string, value func(T) string) Column[T] {
	return Column[T]{Name: name, Description: description, Value: func(obj T) any { return value(obj) }}
}

// Wide is a column of words that only the wide form shows.
func Wide[T Object](name, description string, value func(T) string) Column[T] {
	c := Text(name, description, value)
	c.Priority = 1
	return c
}
