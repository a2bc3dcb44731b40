package apiserver

import (
	"encoding/json"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/proa-dev/proa/store"
)

// table shows items as kubectl get does. Watchers are told the columns once.
func (r *request) table(items []*store.Item, columns bool, revision string) (*metav1.Table, error) {
	t := &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/" + r.out.version},
		ListMeta: metav1.ListMeta{ResourceVersion: revision},
		Rows:     make([]metav1.TableRow, 0, len(items)),
	}
	named := false // the kind shows the name itself, elsewhere than in front
	for _, c := range r.kind.Columns {
		named = named || c.Name == "Name" && r.kind.Custom == nil
	}
	t.ColumnDefinitions = []metav1.TableColumnDefinition{}
	if columns {
		t.ColumnDefinitions = r.columns(named)
	}
	include := r.query.Get("includeObject")
	for _, item := range items {
		row, err := r.row(item, named, include)
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

func (r *request) tableBytes(items []*store.Item, columns bool, revision string) ([]byte, error) {
	t, err := r.table(items, columns, revision)
	if err != nil {
		return nil, err
	}
	return json.Marshal(t)
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

func (r *request) row(item *store.Item, named bool, include string) (metav1.TableRow, error) {
	row := metav1.TableRow{}
	obj, err := r.view(item)
	if err != nil {
		return row, err
	}
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
	switch include {
	case "None":
	case "Object":
		if raw, err := r.json(item); err == nil {
			row.Object = runtime.RawExtension{Raw: raw}
		}
	default:
		p := partial(obj, r.out.version)
		if raw, err := json.Marshal(p); err == nil {
			row.Object = runtime.RawExtension{Raw: raw}
		}
	}
	return row, nil
}
