from django.urls import path

from serving import views

urlpatterns = [
    path("healthz", views.health),
    path("models", views.models),
    path("models/<slug:name>", views.model),
    path("models/<slug:name>/predict", views.predict),
    path("jobs", views.jobs),
    path("jobs/<int:number>", views.job),
]
