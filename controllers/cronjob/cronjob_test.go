package cronjob

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Of the times missed only the last is made up for, and none that came too long ago.
func TestDue(t *testing.T) {
	now := time.Date(2026, 5, 1, 10, 7, 30, 0, time.UTC)
	short, zone := int64(60), "Asia/Kolkata"
	for _, c := range []struct {
		name       string
		edit       func(*batchv1.CronJob)
		last, next string
	}{
		{"missed many", func(cj *batchv1.CronJob) {}, "10:05", "10:10"},
		{"done", func(cj *batchv1.CronJob) {
			at := metav1.NewTime(now.Add(-150 * time.Second))
			cj.Status.LastScheduleTime = &at
		}, "", "10:10"},
		{"too late", func(cj *batchv1.CronJob) { cj.Spec.StartingDeadlineSeconds = &short }, "", "10:10"},
		{"zone", func(cj *batchv1.CronJob) { cj.Spec.Schedule, cj.Spec.TimeZone = "0 15 * * *", &zone }, "09:30", "09:30"},
	} {
		cj := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.AddDate(-2, 0, 0))}, Spec: batchv1.CronJobSpec{Schedule: "*/5 * * * *"}}
		utc := "UTC"
		cj.Spec.TimeZone = &utc
		c.edit(cj)
		last, next, err := due(cj, now)
		text := func(t time.Time) string {
			if t.IsZero() {
				return ""
			}
			return t.UTC().Format("15:04")
		}
		if err != nil || text(last) != c.last || text(next) != c.next {
			t.Errorf("%s: %s, %s, %v", c.name, last, next, err)
		}
	}
}
