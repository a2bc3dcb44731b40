package fairness_test

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/flowcontrol"
	"github.com/proa-dev/proa/apiserver/fairness"
	"github.com/proa-dev/proa/store"
)

// eventually waits for something to hold.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 500 {
		if holds() {
			return
		}
		select {
		case <-t.Context().Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("never: " + what)
}

func TestFollow(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var collections []*store.Collection
	for _, k := range flowcontrol.Kinds {
		c, err := s.Serve(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		collections = append(collections, c)
	}
	schemas, levels := collections[0], collections[1]
	f := fairness.New(fairness.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	running.Go(func() {
		if err := f.Follow(ctx, s, quiet); err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })

	get := func(c *store.Collection, name string) api.Object {
		item, err := c.Get(t.Context(), "", name, store.Any)
		if err != nil {
			return nil
		}
		return item.Object()
	}
	schema := func(name string) *flowcontrolv1.FlowSchema {
		s, _ := get(schemas, name).(*flowcontrolv1.FlowSchema)
		return s
	}
	dangling := func(name string) string {
		if s := schema(name); s != nil {
			for _, c := range s.Status.Conditions {
				return string(c.Status) + " " + c.Reason
			}
		}
		return ""
	}
	headers := func(user string) http.Header {
		h := http.Header{}
		a := &access.Attributes{User: &api.User{Name: user, Groups: []string{"system:authenticated"}}, Verb: "get", Path: "/version"}
		place, err := f.Admit(t.Context(), a, 1, h)
		if err != nil {
			t.Fatal(err)
		}
		place.Leave()
		return h
	}
	for _, want := range append(flowcontrol.MandatorySchemas(), flowcontrol.SuggestedSchemas()...) {
		eventually(t, want.Name+" is there, with its level", func() bool { return dangling(want.Name) == "False Found" })
	}
	if h := headers("foo"); h.Get(fairness.SchemaHeader) != string(schema("global-default").UID) || h.Get(fairness.SchemaHeader) == "" {
		t.Errorf("headers %v", h)
	}

	// A schema is in force once its level is there.
	mine := flowcontrol.SuggestedSchemas()[8]
	mine.Name, mine.UID, mine.Annotations = "mine", "schema-uid", nil
	mine.Spec.MatchingPrecedence, mine.Spec.PriorityLevelConfiguration.Name = 1000, "mine"
	mine.Spec.Rules[0].Subjects = []flowcontrolv1.Subject{{Kind: "User", User: &flowcontrolv1.UserSubject{Name: "noxu"}}}
	if _, err := schemas.Create(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	eventually(t, "dangling", func() bool { return dangling("mine") == "True NotFound" })
	if h := headers("noxu"); h.Get(fairness.SchemaHeader) == "schema-uid" {
		t.Error("a schema without its level is in force")
	}
	level := flowcontrol.SuggestedLevels()[0]
	level.Name, level.UID = "mine", "level-uid"
	if _, err := levels.Create(t.Context(), level); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not dangling", func() bool { return dangling("mine") == "False Found" })
	if h := headers("noxu"); h.Get(fairness.SchemaHeader) != "schema-uid" || h.Get(fairness.LevelHeader) != "level-uid" {
		t.Errorf("headers %v", h)
	}

	// What must be there comes back; what is kept is put right; what is the owner's is left.
	if _, err := schemas.Delete(t.Context(), "", "catch-all", nil); err != nil {
		t.Fatal(err)
	}
	change := func(name, keep string) {
		_, err := schemas.Update(t.Context(), "", name, func(cur *store.Item) (api.Object, error) {
			s := cur.Object().DeepCopyObject().(*flowcontrolv1.FlowSchema)
			s.Spec.MatchingPrecedence, s.Generation = 4321, 2
			s.Annotations = map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: keep}
			return s, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	change("service-accounts", "false")
	change("system-nodes", "true")
	eventually(t, "catch-all is back", func() bool { return schema("catch-all") != nil })
	eventually(t, "system-nodes is put right", func() bool { return schema("system-nodes").Spec.MatchingPrecedence == 500 })
	if schema("service-accounts").Spec.MatchingPrecedence != 4321 {
		t.Error("what its owner changed was put right")
	}
}
