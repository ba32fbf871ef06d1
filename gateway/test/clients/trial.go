// Trial of the generated client: reads, pages, creates, changes under a condition and removes.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"

	tessera "github.com/tessera/client"
)

func main() {
	if err := try(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func try(server, collection string) error {
	ctx := context.Background()
	settings := tessera.NewConfiguration()
	settings.Servers = tessera.ServerConfigurations{{URL: server}}
	client := tessera.NewAPIClient(settings)

	all, _, err := client.DataAPI.GetCollections(ctx).Execute()
	if err != nil {
		return err
	}
	for _, one := range all.Collections {
		if one.Id == collection {
			fmt.Println("collection", one.Title)
		}
	}

	// All pages of a box. The client writes its numbers with 32 bits, whatever the document says.
	count := 0
	for cursor := ""; ; {
		request := client.DataAPI.GetFeatures(ctx, collection).Limit(40).Bbox([]float64{0, 0, 98.5, 10})
		if cursor != "" {
			request = request.Cursor(cursor)
		}
		page, _, err := request.Execute()
		if err != nil {
			return err
		}
		count += len(page.Features)
		if cursor = next(page.Links); cursor == "" {
			break
		}
	}
	fmt.Println("features", count)

	place := tessera.GeometryBody{}
	if err := json.Unmarshal([]byte(`{"type":"Point","coordinates":[1.23456789,2.5]}`), &place); err != nil {
		return err
	}
	body := tessera.NewFeatureBody("Feature", *tessera.NewNullableGeometryBody(&place), map[string]any{"name": "new"})
	made, answer, err := client.ChangesAPI.CreateFeature(ctx, collection).
		CreateFeatureRequest(tessera.FeatureBodyAsCreateFeatureRequest(body)).
		Prefer("return=representation").IdempotencyKey("trial").Execute()
	if err != nil {
		return err
	}
	id := fmt.Sprintf("%.0f", *made.Id.Float64)
	fmt.Println("made", id, made.Geometry.Get().Coordinates)

	patch := tessera.NewFeaturePatch()
	patch.SetProperties(map[string]any{"name": "newer"})
	first := answer.Header.Get("ETag")
	changed, answer, err := client.ChangesAPI.UpdateFeature(ctx, collection, id).FeaturePatch(*patch).IfMatch(first).Execute()
	if err != nil {
		return err
	}
	fmt.Println("changed", changed.Properties["name"])

	_, _, err = client.ChangesAPI.UpdateFeature(ctx, collection, id).FeaturePatch(*patch).IfMatch(first).Execute()
	var failure *tessera.GenericOpenAPIError
	if !errors.As(err, &failure) {
		return fmt.Errorf("the second change was not refused: %v", err)
	}
	problem, isProblem := failure.Model().(tessera.Problem)
	if !isProblem {
		return fmt.Errorf("no problem, but %s", failure.Body())
	}
	fmt.Println("refused", problem.Status, problem.Code)

	if _, err := client.ChangesAPI.DeleteFeature(ctx, collection, id).IfMatch(answer.Header.Get("ETag")).Execute(); err != nil {
		return err
	}
	_, answer, err = client.DataAPI.GetFeature(ctx, collection, id).Execute()
	if err == nil {
		return errors.New("the feature is still there")
	}
	fmt.Println("removed", answer.StatusCode)
	return nil
}

// next returns the cursor of the next page, or nothing for the last one.
func next(links []tessera.Link) string {
	for _, link := range links {
		if link.Rel == "next" {
			if address, err := url.Parse(link.Href); err == nil {
				return address.Query().Get("cursor")
			}
		}
	}
	return ""
}
