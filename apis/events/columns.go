package events

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
)

func firstSeen(e *eventsv1.Event) string {
	if e.DeprecatedFirstTimestamp.IsZero() {
		return api.Since(metav1.Time{Time: e.EventTime.Time})
	}
	return api.Since(e.DeprecatedFirstTimestamp)
}

func lastSeen(e *eventsv1.Event) string {
	switch {
	case e.Series != nil:
		return api.Since(metav1.Time{Time: e.Series.LastObservedTime.Time})
	case e.DeprecatedLastTimestamp.IsZero():
		return firstSeen(e)
	}
	return api.Since(e.DeprecatedLastTimestamp)
}

func count(e *eventsv1.Event) int64 {
	switch {
	case e.Series != nil:
		return int64(e.Series.Count)
	case e.DeprecatedCount == 0:
		return 1 // a single event of the newer form
	}
	return int64(e.DeprecatedCount)
}

func object(r corev1.ObjectReference) string {
	return strings.ToLower(r.Kind) + "/" + r.Name
}

func source(e *eventsv1.Event) string {
	component, instance := e.ReportingController, e.ReportingInstance
	if component == "" {
		component, instance = e.DeprecatedSource.Component, e.DeprecatedSource.Host
	}
	if instance == "" {
		return component
	}
	return component + ", " + instance
}
