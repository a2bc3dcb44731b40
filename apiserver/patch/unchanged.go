package patch

import "github.com/proa-dev/proa/apis/api"

func (f *Fields) unchanged(live, obj api.Object, subresource string) bool { return false }
