// Package contract drives the official Go client against TURBOPUFFER_BASE_URL, which holds the placeholder REGION.
package contract

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/turbopuffer/turbopuffer-go/v2"
	"github.com/turbopuffer/turbopuffer-go/v2/option"
)

const callTimeout = 20 * time.Second

func newClient() turbopuffer.Client {
	return turbopuffer.NewClient(option.WithRegion("gcp-us-central1"), option.WithMaxRetries(0))
}

func withTimeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

// load writes three documents into a namespace of the test's own.
func load(t *testing.T) (turbopuffer.Namespace, string) {
	t.Helper()
	client := newClient()
	name := fmt.Sprintf("contract-go-%d-%s", os.Getpid(), t.Name())
	ns := client.Namespace(name)
	_, err := ns.Write(withTimeout(t), turbopuffer.NamespaceWriteParams{
		UpsertRows: []turbopuffer.RowParam{
			{"id": 1, "vector": []float32{1, 0}, "name": "fox", "n": 1, "text": "the quick brown fox"},
			{"id": 2, "vector": []float32{0, 1}, "name": "dog", "n": 2, "text": "the lazy dog"},
			{"id": 3, "vector": []float32{0.7, 0.7}, "name": "cat", "n": 2, "text": "a fox and another fox"},
		},
		DistanceMetric: turbopuffer.DistanceMetricCosineDistance,
		Schema: map[string]turbopuffer.AttributeSchemaConfigParam{
			"text": {Type: "string", FullTextSearch: &turbopuffer.FullTextSearchConfigParam{}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ns.DeleteAll(context.Background(), turbopuffer.NamespaceDeleteAllParams{}) })
	return ns, name
}

func query(t *testing.T, ns turbopuffer.Namespace, params turbopuffer.NamespaceQueryParams) *turbopuffer.NamespaceQueryResponse {
	t.Helper()
	res, err := ns.Query(withTimeout(t), params)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func wantIDs(t *testing.T, rows []turbopuffer.Row, want ...int) {
	t.Helper()
	got := []string{}
	for _, row := range rows {
		got = append(got, fmt.Sprint(row["id"]))
	}
	wanted := []string{}
	for _, id := range want {
		wanted = append(wanted, fmt.Sprint(id))
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Fatalf("ids are %v, want %v", got, wanted)
	}
}

func TestRankings(t *testing.T) {
	ns, _ := load(t)
	for _, c := range []struct {
		name   string
		params turbopuffer.NamespaceQueryParams
		want   []int
	}{
		{"vector", turbopuffer.NamespaceQueryParams{RankBy: turbopuffer.NewRankByAnn("vector", []float32{1, 0})}, []int{1, 3, 2}},
		{"filtered", turbopuffer.NamespaceQueryParams{
			RankBy:  turbopuffer.NewRankByAnn("vector", []float32{1, 0}),
			Filters: turbopuffer.NewFilterEq("n", 2),
		}, []int{3, 2}},
		{"text", turbopuffer.NamespaceQueryParams{RankBy: turbopuffer.NewRankByTextBM25("text", "fox")}, []int{3, 1}},
		{"attribute", turbopuffer.NamespaceQueryParams{
			RankBy: turbopuffer.NewRankByAttribute("n", turbopuffer.RankByAttributeOrderDesc),
		}, []int{2, 3, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.params.TopK = turbopuffer.Int(10)
			wantIDs(t, query(t, ns, c.params).Rows, c.want...)
		})
	}
}

func TestAggregates(t *testing.T) {
	ns, _ := load(t)
	total := query(t, ns, turbopuffer.NamespaceQueryParams{
		AggregateBy: map[string]turbopuffer.AggregateBy{"count": turbopuffer.NewAggregateByCount()},
	})
	if fmt.Sprint(total.Aggregations["count"]) != "3" {
		t.Fatalf("aggregations are %v", total.Aggregations)
	}
	groups := query(t, ns, turbopuffer.NamespaceQueryParams{
		AggregateBy: map[string]turbopuffer.AggregateBy{"count": turbopuffer.NewAggregateByCount()},
		GroupBy:     []turbopuffer.GroupBy{turbopuffer.NewGroupByAttr("n")},
	})
	if len(groups.AggregationGroups) != 2 {
		t.Fatalf("groups are %v", groups.AggregationGroups)
	}
}

func TestMultiQuery(t *testing.T) {
	ns, _ := load(t)
	params := turbopuffer.NamespaceMultiQueryParams{
		Queries: []turbopuffer.NamespaceMultiQueryParamsQuery{
			{RankBy: turbopuffer.NewRankByAnn("vector", []float32{0, 1}), TopK: turbopuffer.Int(3)},
			{RankBy: turbopuffer.NewRankByTextBM25("text", "fox"), TopK: turbopuffer.Int(3)},
		},
	}
	plain, err := ns.MultiQuery(withTimeout(t), params)
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, plain.Results[0].Rows, 2, 3, 1)
	wantIDs(t, plain.Results[1].Rows, 3, 1)
	params.RerankBy = turbopuffer.NewRerankByRrf()
	fused, err := ns.MultiQuery(withTimeout(t), params)
	if err != nil {
		t.Fatal(err)
	}
	if len(fused.Results) != 1 {
		t.Fatalf("%d results, want 1", len(fused.Results))
	}
	wantIDs(t, fused.Results[0].Rows, 3, 1, 2)
}

func TestFullTextSearchInSchema(t *testing.T) {
	ns, _ := load(t)
	schema, err := ns.Schema(withTimeout(t), turbopuffer.NamespaceSchemaParams{})
	if err != nil {
		t.Fatal(err)
	}
	text, name := (*schema)["text"], (*schema)["name"]
	if !text.JSON.FullTextSearch.Valid() || text.FullTextSearch.Language != turbopuffer.LanguageEnglish {
		t.Fatalf("text is %s", turbopuffer.PrettyPrint(schema))
	}
	if name.JSON.FullTextSearch.Valid() {
		t.Fatalf("name has full-text search: %s", turbopuffer.PrettyPrint(schema))
	}
	metadata, err := ns.Metadata(withTimeout(t), turbopuffer.NamespaceMetadataParams{})
	if err != nil {
		t.Fatal(err)
	}
	if metadata.Index.Status != "up-to-date" || time.Since(metadata.CreatedAt) > time.Minute {
		t.Fatalf("metadata is %s", turbopuffer.PrettyPrint(metadata))
	}
}

func TestListing(t *testing.T) {
	_, name := load(t)
	client := newClient()
	pager := client.NamespacesAutoPaging(withTimeout(t), turbopuffer.NamespacesParams{
		Prefix: turbopuffer.String(name), PageSize: turbopuffer.Int(1),
	})
	found := []string{}
	for pager.Next() {
		found = append(found, pager.Current().ID)
	}
	if pager.Err() != nil || !reflect.DeepEqual(found, []string{name}) {
		t.Fatalf("found %v, error %v", found, pager.Err())
	}
}

func TestPatchDeleteAndLargeIDs(t *testing.T) {
	ns, _ := load(t)
	const large = uint64(1<<64 - 1)
	res, err := ns.Write(withTimeout(t), turbopuffer.NamespaceWriteParams{
		UpsertRows: []turbopuffer.RowParam{{"id": large, "vector": []float32{1, 1}}},
		PatchRows:  []turbopuffer.RowParam{{"id": 1, "name": "vixen"}},
		Deletes:    []any{2},
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.RowsAffected != 3 {
		t.Fatalf("%d rows affected, want 3", res.RowsAffected)
	}
	rows := query(t, ns, turbopuffer.NamespaceQueryParams{
		RankBy:            turbopuffer.NewRankByAttribute("id", turbopuffer.RankByAttributeOrderAsc),
		TopK:              turbopuffer.Int(10),
		IncludeAttributes: turbopuffer.IncludeAttributesParam{StringArray: []string{"name"}},
	}).Rows
	if len(rows) != 3 || rows[0]["name"] != "vixen" || fmt.Sprint(rows[2]["id"]) != fmt.Sprint(large) {
		t.Fatalf("rows are %s", turbopuffer.PrettyPrint(rows))
	}
}

func TestCopy(t *testing.T) {
	_, name := load(t)
	client := newClient()
	copied := client.Namespace(name + "-copy")
	t.Cleanup(func() { _, _ = copied.DeleteAll(context.Background(), turbopuffer.NamespaceDeleteAllParams{}) })
	if _, err := copied.CopyFrom(withTimeout(t), turbopuffer.NamespaceCopyFromParams{SourceNamespace: name}); err != nil {
		t.Fatal(err)
	}
	total := query(t, copied, turbopuffer.NamespaceQueryParams{
		AggregateBy: map[string]turbopuffer.AggregateBy{"count": turbopuffer.NewAggregateByCount()},
	})
	if fmt.Sprint(total.Aggregations["count"]) != "3" {
		t.Fatalf("aggregations are %v", total.Aggregations)
	}
}

func TestErrorsHaveTheirStatus(t *testing.T) {
	ns, name := load(t)
	client := newClient()
	missing := client.Namespace(name + "-missing")
	for _, c := range []struct {
		name   string
		call   func() error
		status int
	}{
		{"missing", func() error {
			_, err := missing.Schema(withTimeout(t), turbopuffer.NamespaceSchemaParams{})
			return err
		}, 404},
		{"no limit", func() error {
			_, err := ns.Query(withTimeout(t), turbopuffer.NamespaceQueryParams{
				RankBy: turbopuffer.NewRankByAttribute("id", turbopuffer.RankByAttributeOrderAsc),
			})
			return err
		}, 400},
		{"level", func() error {
			_, err := ns.Query(withTimeout(t), turbopuffer.NamespaceQueryParams{
				RankBy:      turbopuffer.NewRankByAttribute("id", turbopuffer.RankByAttributeOrderAsc),
				TopK:        turbopuffer.Int(1),
				Consistency: turbopuffer.NamespaceQueryParamsConsistency{Level: "nonexistentvalue"},
			})
			return err
		}, 422},
	} {
		t.Run(c.name, func(t *testing.T) {
			var apiError *turbopuffer.Error
			if err := c.call(); !errors.As(err, &apiError) || apiError.StatusCode != c.status {
				t.Fatalf("error is %v, want status %d", err, c.status)
			}
		})
	}
}
