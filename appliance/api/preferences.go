package api

import "net/http"

// longIDs is the only kind of ids that there are, as EFS makes them since 2021.
const longIDs = "LONG_ID"

// PutAccountPreferencesRequest is the body of PutAccountPreferences.
type PutAccountPreferencesRequest struct {
	ResourceIDType string `json:"ResourceIdType"`
}

// ResourceIDPreference says which ids new resources get.
type ResourceIDPreference struct {
	ResourceIDType string   `json:"ResourceIdType"`
	Resources      []string `json:"Resources"`
}

// AccountPreferences is what both operations answer.
type AccountPreferences struct {
	ResourceIDPreference ResourceIDPreference `json:"ResourceIdPreference"`
}

func showPreferences(*http.Request) (int, any, error) {
	return http.StatusOK, AccountPreferences{ResourceIDPreference{longIDs, []string{"FILE_SYSTEM", "MOUNT_TARGET"}}}, nil
}

func (s *Server) prepareDescribePreferences(*http.Request, map[string]string) (prepared, error) {
	return showPreferences, nil
}

// preparePutPreferences takes the preference that holds anyway.
func (s *Server) preparePutPreferences(r *http.Request, parameters map[string]string) (prepared, error) {
	var request PutAccountPreferencesRequest
	if err := decodeBody(r, &request); err != nil {
		return nil, err
	}
	parameters["resourceIdType"] = clip(request.ResourceIDType)
	if request.ResourceIDType != longIDs {
		return nil, badRequest("ResourceIdType must be %s: short ids are not made any more", longIDs)
	}
	return showPreferences, nil
}
