from django.urls import path

from guestbook import views

urlpatterns = [
    path("", views.book, name="book"),
    path("health/", views.health, name="health"),
    path("status/", views.status, name="status"),
    path("slow/<int:seconds>/", views.slow, name="slow"),
]
