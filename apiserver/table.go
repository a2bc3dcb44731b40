package apiserver

import (
	"encoding/json"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/store"
)

// table shows items as kubectl get does. Watchers are told the columns once.
func (r *request) table(items []*store.Item, columns bool, revision string) (*metav1.Table, error) {
	t, named := r.newTable(columns, len(items))
	t.ResourceVersion = revision
	for _, item := range items {
		obj, err := r.view(item)
		if err != nil {
			return nil, err
		}
		row, err := r.row(obj, named, func() ([]byte, error) { return r.json(item) })
		if err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, row)
	}
	if len(items) == 1 && revision == "" {
		t.ResourceVersion = strconv.FormatInt(items[0].Revision, 10)
	}
	return t, nil
}

// newTable is a table without rows; named says that the kind shows the name itself, elsewhere
// than in front.
func (r *request) newTable(columns bool, rows int) (t *metav1.Table, named bool) {
	t = &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/" + r.out.version},
		Rows:     make([]metav1.TableRow, 0, rows),
	}
	for _, c := range r.kind.Columns {
		named = named || c.Name == "Name" && r.kind.Custom == nil
	}
	if columns {
		t.ColumnDefinitions = r.columns(named)
	}
	return t, named
}

func (r *request) tableBytes(items []*store.Item, columns bool, revision string) ([]byte, error) {
	t, err := r.table(items, columns, revision)
	if err != nil {
		return nil, err
	}
	return objectBytes(&choice{media: r.out.media}, t)
}

func (r *request) columns(named bool) []metav1.TableColumnDefinition {
	var all []metav1.TableColumnDefinition
	if !named {
		all = append(all, metav1.TableColumnDefinition{
			Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
		})
	}
	for _, c := range r.kind.Columns {
		kind := c.Type
		if kind == "" {
			kind = "string"
		}
		all = append(all, metav1.TableColumnDefinition{Name: c.Name, Type: kind, Format: c.Format, Description: c.Description, Priority: c.Priority})
	}
	if len(r.kind.Columns) == 0 {
		all = append(all, metav1.TableColumnDefinition{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]})
	}
	return all
}

// row shows an object; whole gives its JSON.
func (r *request) row(obj api.Object, named bool, whole func() ([]byte, error)) (metav1.TableRow, error) {
	row := metav1.TableRow{}
	if !named {
		row.Cells = append(row.Cells, obj.GetName())
	}
	for _, c := range r.kind.Columns {
		v := c.Value(obj)
		if list, ok := v.([]string); ok {
			v = strings.Join(list, ",")
		}
		row.Cells = append(row.Cells, v)
	}
	if len(r.kind.Columns) == 0 {
		row.Cells = append(row.Cells, obj.GetCreationTimestamp().UTC().Format("2006-01-02T15:04:05Z"))
	}
	if r.kind.Ended != nil { // a computed kind has no such
		row.Conditions = r.kind.Ended(obj)
	}
	var err error
	switch metav1.IncludeObjectPolicy(r.query.Get("includeObject")) {
	case metav1.IncludeNone:
	case metav1.IncludeObject:
		row.Object.Raw, err = whole()
	default:
		row.Object.Raw, err = json.Marshal(partial(obj, r.out.version))
	}
	return row, err
}
